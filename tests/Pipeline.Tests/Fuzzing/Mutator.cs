using System.Buffers.Binary;
using System.Text;
using Pipeline.Shared;

namespace Pipeline.Tests.Fuzzing;

/// <summary>
/// Damage of the kinds that parsers fall over: flipped bits, extreme numbers, cuts, repeats that nest deeply, pieces of other
/// files. The same seed gives the same mutants.
/// </summary>
internal sealed class Mutator(ulong seed, IReadOnlyList<byte[]> corpus)
{
    private static readonly long[] ExtremeNumbers =
    [
        0,
        -1,
        1,
        0x7F,
        0xFF,
        0x7FFF,
        0xFFFF,
        int.MaxValue,
        int.MinValue,
        uint.MaxValue,
        long.MaxValue,
        long.MinValue,
        1L << 40,
    ];
    private static readonly string[] ExtremeTexts =
    [
        "0",
        "-1",
        "1e999",
        "99999999999999999999999999",
        "2147483648",
        "9223372036854775807",
        "0.1",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "NaN",
        "\ud800",
        "\0",
    ];
    private static readonly string[] Nesters =
    [
        "[",
        "{",
        "(",
        "{\"a\":",
        "- ",
        "[[",
        "]",
        "((",
        "a: {",
        "\x28",
        "\"",
        "\\",
    ];

    private readonly Xoshiro256 random = new(seed);

    public byte[] Next()
    {
        var bytes = new List<byte>(Pick(corpus));
        int rounds = 1 + random.NextInt(3);
        for (int i = 0; i < rounds; i++)
        {
            Mutate(bytes);
        }
        const int Longest = 1 << 20;
        return bytes.Count > Longest ? [.. bytes.Take(Longest)] : [.. bytes];
    }

    private void Mutate(List<byte> bytes)
    {
        int at = random.NextInt(bytes.Count + 1);
        switch (random.NextInt(11))
        {
            case 0 when at < bytes.Count:
                bytes[at] ^= (byte)(1 << random.NextInt(8));
                break;
            case 1 when at < bytes.Count:
                bytes[at] = (byte)random.NextInt(256);
                break;
            case 2:
                bytes.RemoveRange(at, bytes.Count - at);
                break;
            case 3:
                bytes.RemoveRange(at, Math.Min(bytes.Count - at, 1 + random.NextInt(64)));
                break;
            case 4:
                bytes.InsertRange(at, Slice(bytes));
                break;
            case 5:
                bytes.InsertRange(at, Slice(Pick(corpus)));
                break;
            case 6:
                OverwriteNumber(bytes, at);
                break;
            case 7:
                ReplaceDigits(bytes, at);
                break;
            case 8:
                Repeat(bytes, at, Encoding.UTF8.GetBytes(Pick(Nesters)), 1 << random.NextInt(18));
                break;
            case 9:
                bytes.InsertRange(at, Encoding.UTF8.GetBytes(Pick(ExtremeTexts)));
                break;
            default:
                bytes.InsertRange(
                    at,
                    Enumerable.Range(0, 1 + random.NextInt(16)).Select(_ => (byte)random.NextInt(256)).ToArray()
                );
                break;
        }
    }

    private void OverwriteNumber(List<byte> bytes, int at)
    {
        byte[] number = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(number, Pick(ExtremeNumbers));
        int length = 1 << random.NextInt(4);
        for (int i = 0; i < length && at + i < bytes.Count; i++)
        {
            bytes[at + i] = number[i];
        }
    }

    private void ReplaceDigits(List<byte> bytes, int from)
    {
        int begin = bytes.FindIndex(
            Math.Min(from, Math.Max(0, bytes.Count - 1)),
            b => b is >= (byte)'0' and <= (byte)'9'
        );
        if (begin < 0)
        {
            return;
        }
        int end = begin;
        while (end < bytes.Count && bytes[end] is >= (byte)'0' and <= (byte)'9')
        {
            end++;
        }
        bytes.RemoveRange(begin, end - begin);
        bytes.InsertRange(begin, Encoding.UTF8.GetBytes(Pick(ExtremeTexts)));
    }

    private static void Repeat(List<byte> bytes, int at, byte[] piece, int times)
    {
        byte[] all = new byte[piece.Length * times];
        for (int i = 0; i < times; i++)
        {
            piece.CopyTo(all, i * piece.Length);
        }
        bytes.InsertRange(at, all);
    }

    private byte[] Slice(IReadOnlyList<byte> bytes)
    {
        int from = random.NextInt(bytes.Count + 1);
        return [.. bytes.Skip(from).Take(random.NextInt(128))];
    }

    private T Pick<T>(IReadOnlyList<T> items) => items[random.NextInt(items.Count)];
}
