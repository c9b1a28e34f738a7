using System;
using System.IO;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// TorchSharp 0.107 passes native handles of temporary Scalars without keeping the Scalars alive: a collection on another
/// thread at that moment finalises one while libtorch reads it, and the operation fails or computes with another number.
/// Code compiled without optimisation keeps its arguments alive to the end of the method. This task writes a copy of
/// TorchSharp.dll whose DebuggableAttribute asks for that; only TorchSharp's thin wrappers are affected. Compiled by
/// MSBuild's RoslynCodeTaskFactory against netstandard2.0.
/// </summary>
public sealed class KeepArgumentsAlive : Task
{
    // The attribute's value in the metadata: length 8, prolog 1, modes as int32, no named arguments.
    private static readonly byte[] Optimized = { 8, 1, 0, 0x02, 0, 0, 0, 0, 0 };
    private static readonly byte[] Unoptimized = { 8, 1, 0, 0x07, 1, 0, 0, 0, 0 };

    [Required]
    public string Source { get; set; }

    [Required]
    public string Destination { get; set; }

    public override bool Execute()
    {
        byte[] assembly = File.ReadAllBytes(Source);
        int at = IndexOf(assembly, 0);
        if (at < 0 || IndexOf(assembly, at + 1) >= 0)
        {
            Log.LogError(
                Source
                    + ": its DebuggableAttribute is not where TorchSharp 0.107.0 has it. Use TorchSharp 0.107.0, or one "
                    + "whose operations keep their Scalars alive, and then drop this step."
            );
            return false;
        }
        Buffer.BlockCopy(Unoptimized, 0, assembly, at, Unoptimized.Length);
        if (
            File.Exists(Destination)
            && new FileInfo(Destination).Length == assembly.Length
            && File.GetLastWriteTimeUtc(Destination) >= File.GetLastWriteTimeUtc(Source)
        )
        {
            return true;
        }
        Directory.CreateDirectory(Path.GetDirectoryName(Destination));
        File.Delete(Destination);
        File.WriteAllBytes(Destination, assembly);
        return true;
    }

    private static int IndexOf(byte[] bytes, int from)
    {
        for (int i = from; i <= bytes.Length - Optimized.Length; i++)
        {
            int j = 0;
            while (j < Optimized.Length && bytes[i + j] == Optimized[j])
            {
                j++;
            }
            if (j == Optimized.Length)
            {
                return i;
            }
        }
        return -1;
    }
}
