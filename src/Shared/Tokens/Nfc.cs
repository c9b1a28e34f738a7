using System.Buffers;
using System.Globalization;
using System.Text;

namespace Pipeline.Shared.Tokens;

/// <summary>
/// Unicode normalisation form C (Unicode Standard Annex 15). The executable runs with invariant globalisation, under which
/// string.Normalize returns its input unchanged; GPT-NeoX, OLMo and Qwen tokenizers need the real thing.
/// </summary>
internal static class Nfc
{
    private const int Syllables = 0xAC00;
    private const int Leads = 0x1100;
    private const int Vowels = 0x1161;
    private const int Tails = 0x11A7;
    private const int LeadCount = 19;
    private const int VowelCount = 21;
    private const int TailCount = 28;
    private const int SyllableCount = LeadCount * VowelCount * TailCount;

    private static readonly Dictionary<int, (int First, int Second)> Decompositions = [];
    private static readonly Dictionary<(int First, int Second), int> Compositions = [];
    private static readonly Dictionary<int, byte> Classes = [];
    private static readonly SearchValues<char> Suspects;

    static Nfc()
    {
        var suspects = new HashSet<char>();
        foreach (string entry in NfcData.Decompositions.Split([' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = entry.Split('=', '>', '+');
            (int whole, int first, int second) = (Hex(parts[0]), Hex(parts[1]), parts.Length > 2 ? Hex(parts[2]) : -1);
            Decompositions[whole] = (first, second);
            if (entry.Contains('='))
            {
                Compositions[(first, second)] = whole;
            }
            // What can change: the second half of a composition, and what never survives composing.
            suspects.Add(FirstUnit(entry.Contains('=') ? second : whole));
        }
        foreach (
            string entry in NfcData.CombiningClasses.Split([' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries)
        )
        {
            string[] parts = entry.Split('-', ':');
            for (int point = Hex(parts[0]); point <= Hex(parts[^2]); point++)
            {
                Classes[point] = (byte)Hex(parts[^1]);
                suspects.Add(FirstUnit(point));
            }
        }
        for (int jamo = Vowels; jamo < Tails + TailCount; jamo++)
        {
            suspects.Add((char)jamo);
        }
        Suspects = SearchValues.Create([.. suspects]);
    }

    /// <summary>True when nothing in the text could change; most text passes here, in one vectorised look.</summary>
    public static bool IsSurelyNormal(ReadOnlySpan<char> text) => !text.ContainsAny(Suspects);

    public static string Normalize(ReadOnlySpan<char> text)
    {
        var points = new List<(int Point, byte Class)>(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            Decompose(rune.Value, points);
        }
        Reorder(points);
        return Compose(points);
    }

    private static void Decompose(int point, List<(int, byte)> points)
    {
        int syllable = point - Syllables;
        if ((uint)syllable < SyllableCount)
        {
            points.Add((Leads + (syllable / (VowelCount * TailCount)), 0));
            points.Add((Vowels + (syllable / TailCount % VowelCount), 0));
            if (syllable % TailCount > 0)
            {
                points.Add((Tails + (syllable % TailCount), 0));
            }
        }
        else if (point >= 0xC0 && Decompositions.TryGetValue(point, out (int First, int Second) parts))
        {
            Decompose(parts.First, points);
            if (parts.Second >= 0)
            {
                Decompose(parts.Second, points);
            }
        }
        else
        {
            points.Add((point, point < 0x300 ? (byte)0 : Classes.GetValueOrDefault(point)));
        }
    }

    private static void Reorder(List<(int Point, byte Class)> points)
    {
        for (int start = 0; start < points.Count; start++)
        {
            int end = start;
            while (end < points.Count && points[end].Class != 0)
            {
                end++;
            }
            if (end - start > 1)
            {
                // Stable, as marks of one class must keep their order.
                (int, byte)[] run = [.. points[start..end].OrderBy(point => point.Class)];
                for (int i = 0; i < run.Length; i++)
                {
                    points[start + i] = run[i];
                }
            }
            start = end;
        }
    }

    private static string Compose(List<(int Point, byte Class)> points)
    {
        int starter = -1;
        int kept = 0;
        int lastClass = 0;
        for (int i = 0; i < points.Count; i++)
        {
            (int point, byte combining) = points[i];
            bool reaches = starter >= 0 && (starter == kept - 1 || lastClass < combining);
            if (reaches && Pair(points[starter].Point, point) is int whole)
            {
                points[starter] = (whole, 0);
                continue;
            }
            if (combining == 0)
            {
                starter = kept;
            }
            lastClass = combining;
            points[kept++] = (point, combining);
        }
        var text = new StringBuilder(kept);
        Span<char> units = stackalloc char[2];
        for (int i = 0; i < kept; i++)
        {
            text.Append(units[..new Rune(points[i].Point).EncodeToUtf16(units)]);
        }
        return text.ToString();
    }

    private static int? Pair(int first, int second)
    {
        if ((uint)(first - Leads) < LeadCount && (uint)(second - Vowels) < VowelCount)
        {
            return Syllables + ((((first - Leads) * VowelCount) + second - Vowels) * TailCount);
        }
        bool openSyllable = (uint)(first - Syllables) < SyllableCount && (first - Syllables) % TailCount == 0;
        if (openSyllable && second > Tails && second < Tails + TailCount)
        {
            return first + second - Tails;
        }
        return Compositions.TryGetValue((first, second), out int whole) ? whole : null;
    }

    private static char FirstUnit(int point) => char.ConvertFromUtf32(point)[0];

    private static int Hex(string text) => int.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
