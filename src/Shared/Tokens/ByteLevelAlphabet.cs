namespace Pipeline.Shared.Tokens;

/// <summary>GPT-2's printable stand-in for each byte: itself where it prints, else the next unused from U+0100.</summary>
public static class ByteLevelAlphabet
{
    private static readonly char[] Chars = MakeTable();
    private static readonly Dictionary<char, byte> Bytes = Enumerable
        .Range(0, 256)
        .ToDictionary(b => Chars[b], b => (byte)b);

    public static char CharOf(byte value) => Chars[value];

    public static byte ByteOf(char stand) => Bytes[stand];

    /// <summary>Whether the character stands for a byte.</summary>
    public static bool Contains(char stand) => Bytes.ContainsKey(stand);

    /// <summary>The 256 stand-ins in code point order: the order of GPT-2's byte pieces.</summary>
    public static IReadOnlyList<char> Ordered { get; } = [.. Chars.Order()];

    private static char[] MakeTable()
    {
        var table = new char[256];
        int next = 256;
        for (int b = 0; b < 256; b++)
        {
            bool prints = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            table[b] = prints ? (char)b : (char)next++;
        }
        return table;
    }
}
