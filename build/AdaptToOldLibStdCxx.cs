using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// TorchSharp 0.107's libLibTorchSharp.so was linked against GCC 13's libstdc++ and needs one symbol of it,
/// std::ios_base_library_init() at version GLIBCXX_3.4.32, which older distributions lack. Where the system's
/// libstdc++ has that version nothing is touched. Elsewhere this task writes a copy in which the symbol is
/// std::ios_base::Init's constructor at GLIBCXX_3.4: it does the same initialisation in older libraries.
/// Compiled by MSBuild's RoslynCodeTaskFactory against netstandard2.0.
/// </summary>
public sealed class AdaptToOldLibStdCxx : Task
{
    private const string NewVersion = "GLIBCXX_3.4.32";
    private const string OldVersion = "GLIBCXX_3.4";
    private const string NewestOtherVersion = "GLIBCXX_3.4.30";
    private const string NewSymbol = "_ZSt21ios_base_library_initv";
    private const string OldSymbol = "_ZNSt8ios_base4InitC1Ev";

    [Required]
    public string Source { get; set; }

    [Required]
    public string Destination { get; set; }

    [Output]
    public bool Adapted { get; set; }

    public override bool Execute()
    {
        string system = FindSystemLibrary();
        if (system == null)
        {
            Log.LogMessage(MessageImportance.Low, "No system libstdc++.so.6 found; " + Source + " is used as it is.");
            return true;
        }
        byte[] systemBytes = File.ReadAllBytes(system);
        if (IndexOf(systemBytes, Terminated(NewVersion), 0) >= 0)
        {
            return true;
        }
        if (IndexOf(systemBytes, Terminated(NewestOtherVersion), 0) < 0)
        {
            Log.LogError(
                system
                    + ": TorchSharp needs "
                    + NewestOtherVersion
                    + ", but this libstdc++ ends at "
                    + NewestVersionOf(systemBytes)
                    + ". Use a distribution with GCC 12 or newer."
            );
            return false;
        }

        byte[] library = File.ReadAllBytes(Source);
        string fault = Patch(library);
        if (fault != null)
        {
            Log.LogError(
                Source
                    + ": cannot be adapted to "
                    + system
                    + " (newest version "
                    + NewestVersionOf(systemBytes)
                    + "): "
                    + fault
                    + ". Use TorchSharp 0.107.0, or a system whose libstdc++ has "
                    + NewVersion
                    + "."
            );
            return false;
        }
        Adapted = true;
        if (File.Exists(Destination) && Same(File.ReadAllBytes(Destination), library))
        {
            return true;
        }
        Directory.CreateDirectory(Path.GetDirectoryName(Destination));
        string temporary = Destination + "." + Guid.NewGuid().ToString("N");
        File.WriteAllBytes(temporary, library);
        if (File.Exists(Destination))
        {
            File.Delete(Destination);
        }
        File.Move(temporary, Destination);
        Log.LogMessage(MessageImportance.Normal, "libLibTorchSharp.so adapted to " + system + ".");
        return true;
    }

    private static string FindSystemLibrary()
    {
        var folders = new List<string>();
        string searchPath = Environment.GetEnvironmentVariable("LD_LIBRARY_PATH");
        if (!string.IsNullOrEmpty(searchPath))
        {
            folders.AddRange(searchPath.Split(new[] { ':' }, StringSplitOptions.RemoveEmptyEntries));
        }
        folders.AddRange(
            new[] { "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib" }
        );
        foreach (string folder in folders)
        {
            string candidate = Path.Combine(folder, "libstdc++.so.6");
            if (File.Exists(candidate))
            {
                return candidate;
            }
        }
        return null;
    }

    /// <summary>Patches the ELF image in place; returns what is wrong with it, or null.</summary>
    private static string Patch(byte[] elf)
    {
        if (elf.Length < 64 || elf[0] != 0x7f || elf[1] != (byte)'E' || elf[4] != 2 || elf[5] != 1)
        {
            return "not a little-endian 64-bit ELF file";
        }
        long sectionTable = BitConverter.ToInt64(elf, 0x28);
        int sectionSize = BitConverter.ToUInt16(elf, 0x3a);
        int sectionCount = BitConverter.ToUInt16(elf, 0x3c);
        const uint VersionNeeds = 0x6ffffffe;
        for (int i = 0; i < sectionCount; i++)
        {
            int header = (int)(sectionTable + (long)i * sectionSize);
            if (BitConverter.ToUInt32(elf, header + 4) != VersionNeeds)
            {
                continue;
            }
            int needs = (int)BitConverter.ToInt64(elf, header + 0x18);
            int link = BitConverter.ToInt32(elf, header + 0x28);
            int stringHeader = (int)(sectionTable + (long)link * sectionSize);
            int strings = (int)BitConverter.ToInt64(elf, stringHeader + 0x18);
            int stringsLength = (int)BitConverter.ToInt64(elf, stringHeader + 0x20);
            return PatchVersionNeeds(elf, needs, strings) ?? PatchSymbolName(elf, strings, stringsLength);
        }
        return "no .gnu.version_r section";
    }

    private static string PatchVersionNeeds(byte[] elf, int needs, int strings)
    {
        for (int need = needs; ; )
        {
            int oldEntry = -1;
            int newEntry = -1;
            int count = BitConverter.ToUInt16(elf, need + 2);
            int entry = need + (int)BitConverter.ToUInt32(elf, need + 8);
            for (int j = 0; j < count; j++)
            {
                string name = StringAt(elf, strings + (int)BitConverter.ToUInt32(elf, entry + 8));
                if (name == OldVersion)
                {
                    oldEntry = entry;
                }
                else if (name == NewVersion)
                {
                    newEntry = entry;
                }
                entry += (int)BitConverter.ToUInt32(elf, entry + 12);
            }
            if (oldEntry >= 0 && newEntry >= 0)
            {
                Buffer.BlockCopy(elf, oldEntry, elf, newEntry, 4); // vna_hash
                Buffer.BlockCopy(elf, oldEntry + 8, elf, newEntry + 8, 4); // vna_name
                return null;
            }
            int next = (int)BitConverter.ToUInt32(elf, need + 12);
            if (next == 0)
            {
                return "no library needs both " + OldVersion + " and " + NewVersion;
            }
            need += next;
        }
    }

    private static string PatchSymbolName(byte[] elf, int strings, int length)
    {
        byte[] wanted = Terminated(NewSymbol);
        int at = IndexOf(elf, wanted, strings);
        if (at < 0 || at >= strings + length)
        {
            return "symbol " + NewSymbol + " not found";
        }
        byte[] replacement = new byte[wanted.Length];
        Encoding.ASCII.GetBytes(OldSymbol, 0, OldSymbol.Length, replacement, 0);
        Buffer.BlockCopy(replacement, 0, elf, at, replacement.Length);
        return null;
    }

    private static string NewestVersionOf(byte[] library)
    {
        for (int minor = 60; minor >= 0; minor--)
        {
            if (IndexOf(library, Terminated(OldVersion + "." + minor), 0) >= 0)
            {
                return OldVersion + "." + minor;
            }
        }
        return "an unknown version";
    }

    private static byte[] Terminated(string text)
    {
        return Encoding.ASCII.GetBytes(text + "\0");
    }

    private static string StringAt(byte[] bytes, int offset)
    {
        int end = Array.IndexOf(bytes, (byte)0, offset);
        return Encoding.ASCII.GetString(bytes, offset, end - offset);
    }

    private static int IndexOf(byte[] bytes, byte[] wanted, int from)
    {
        for (
            int i = Array.IndexOf(bytes, wanted[0], from);
            i >= 0 && i <= bytes.Length - wanted.Length;
            i = Array.IndexOf(bytes, wanted[0], i + 1)
        )
        {
            int j = 1;
            while (j < wanted.Length && bytes[i + j] == wanted[j])
            {
                j++;
            }
            if (j == wanted.Length)
            {
                return i;
            }
        }
        return -1;
    }

    private static bool Same(byte[] left, byte[] right)
    {
        if (left.Length != right.Length)
        {
            return false;
        }
        for (int i = 0; i < left.Length; i++)
        {
            if (left[i] != right[i])
            {
                return false;
            }
        }
        return true;
    }
}
