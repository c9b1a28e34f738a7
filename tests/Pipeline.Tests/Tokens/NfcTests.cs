using System.Security.Cryptography;
using System.Text;
using Pipeline.Shared.Tokens;

namespace Pipeline.Tests.Tokens;

/// <summary>Digests are those of Python's <c>unicodedata.normalize("NFC", text)</c> (Unicode 14) over the same texts, a line each.</summary>
public class NfcTests
{
    private static readonly int[] Alphabet =
    [
        0x61,
        0x65,
        0x41,
        0x6F,
        0x301,
        0x300,
        0x323,
        0x327,
        0x308,
        0x31B,
        0x1EA1,
        0xE9,
        0x1100,
        0x1161,
        0x11A8,
        0xAC00,
        0x212B,
        0x2126,
        0x915,
        0x93C,
        0x345,
        0x20,
        0x1D15E,
        0x5D0,
        0x5B7,
        0x5BC,
    ];

    [Fact]
    public void Every_code_point_normalises_as_in_Python() =>
        Digest(
                Enumerable
                    .Range(0, 0x110000)
                    .Where(point => point is < 0xD800 or > 0xDFFF)
                    .Select(char.ConvertFromUtf32)
            )
            .Should()
            .Be("9cc65524a9d8082bf10840c616cd199bd2ac12ee49a3381bd6fb7957711f342b");

    [Fact]
    public void Mixed_bases_marks_and_syllables_normalise_as_in_Python() =>
        Digest(MixedTexts()).Should().Be("25e279157dca45c8342973a445c1469fb5a98547a75eb580dab8b96ae67a6acf");

    [Fact]
    public void A_tokenizer_that_asks_for_NFC_gives_both_spellings_the_same_ids()
    {
        var tokenizer = Tokenizers.Load(TestData.Require("data", "tokenizers", "neox"));

        tokenizer.Encode("caf\u0065\u0301").Should().Equal(tokenizer.Encode("caf\u00e9"));
    }

    private static IEnumerable<string> MixedTexts()
    {
        ulong state = 1;
        for (int i = 0; i < 50_000; i++)
        {
            var text = new StringBuilder();
            for (int j = 0; j < 8; j++)
            {
                state = unchecked((state * 6364136223846793005) + 1442695040888963407);
                text.Append(char.ConvertFromUtf32(Alphabet[(int)((state >> 33) % (ulong)Alphabet.Length)]));
            }
            yield return text.ToString();
        }
    }

    private static string Digest(IEnumerable<string> texts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string text in texts)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(Nfc.Normalize(text) + "\n"));
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
