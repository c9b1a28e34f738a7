using System.Buffers.Binary;

namespace Pipeline.Tests.Models;

/// <summary>A small model of llama2.c, the same weights in either version of its file.</summary>
internal static class Llama2cFiles
{
    public const int Dim = 8;
    public const int Hidden = 12;
    public const int Layers = 2;
    public const int Heads = 2;
    public const int KvHeads = 1;
    public const int Vocabulary = 16;
    public const int Context = 10;

    private const int HeadWidth = Dim / Heads;

    public static byte[] Write(int version, bool tied)
    {
        var stream = new MemoryStream();
        void Number(int value)
        {
            byte[] bytes = new byte[sizeof(int)];
            BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
            stream.Write(bytes);
        }
        if (version > 0)
        {
            Number(0x616b3432);
            Number(version);
        }
        int[] header = [Dim, Hidden, Layers, Heads, KvHeads, version == 0 && !tied ? -Vocabulary : Vocabulary, Context];
        Array.ForEach(header, Number);
        if (version > 0)
        {
            stream.WriteByte((byte)(tied ? 1 : 0));
            stream.Write(new byte[256 - stream.Length]);
        }
        string[] order =
            version == 0
                ? ["embedding", "norm1", "q", "k", "v", "o", "norm2", "w1", "w2", "w3", "norm", "frequencies"]
                : ["norm1", "norm2", "norm", "embedding", "q", "k", "v", "o", "w1", "w2", "w3"];
        foreach (string name in tied ? order : [.. order, "output"])
        {
            foreach (float value in Values(name))
            {
                Number(BitConverter.SingleToInt32Bits(value));
            }
        }
        return stream.ToArray();
    }

    /// <summary>A kind of weight, all its layers one after another.</summary>
    public static float[] Values(string name)
    {
        int count = name switch
        {
            "embedding" or "output" => Vocabulary * Dim,
            "norm1" or "norm2" => Layers * Dim,
            "q" or "o" => Layers * Dim * Dim,
            "k" or "v" => Layers * KvHeads * HeadWidth * Dim,
            "w1" or "w2" or "w3" => Layers * Hidden * Dim,
            "norm" => Dim,
            "frequencies" => Context * HeadWidth,
            _ => throw new ArgumentException(name),
        };
        var random = new Shared.Xoshiro256((ulong)name.Sum(letter => letter * 31));
        return [.. Enumerable.Range(0, count).Select(_ => (random.NextInt(2001) - 1000) / 1000f)];
    }
}
