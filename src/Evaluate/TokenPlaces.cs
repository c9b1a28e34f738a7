using System.Globalization;
using System.Numerics;
using System.Text;
using Pipeline.Shared.Tokens;

namespace Pipeline.Evaluate;

/// <summary>What a token is by its id and text; the first that applies.</summary>
internal enum TokenClass
{
    /// <summary>The tokenizer's BOS.</summary>
    Bos,

    /// <summary>Its EOS, and tokens without text.</summary>
    Special,

    /// <summary>White space alone, line breaks included.</summary>
    Space,

    /// <summary>Bytes that are part of a character (U+FFFD), and what is none of the following.</summary>
    Other,

    /// <summary>A number is its first character that is no white space.</summary>
    Digits,

    /// <summary>Punctuation or a symbol is.</summary>
    Punctuation,

    /// <summary>A letter is, after white space.</summary>
    WordStart,

    /// <summary>A letter is, the token's first: the rest of a word, or one that follows punctuation or a line break.</summary>
    WordContinuation,
}

/// <summary>The groups a token's figures are summed in.</summary>
/// <param name="Band">Of its position in the context: 0, 1, 2 to 3, 4 to 7, and so on by powers of two.</param>
/// <param name="Class">Its own class, not that of the token predicted from it.</param>
/// <param name="Document">Counted from the first that is evaluated.</param>
internal readonly record struct TokenPlace(int Band, TokenClass Class, int Document)
{
    public static int BandOf(int position) => position == 0 ? 0 : 1 + BitOperations.Log2((uint)position);

    /// <summary>The positions of a band in contexts of <paramref name="context"/> tokens, both included.</summary>
    public static (int From, int To) PositionsOf(int band, int context) =>
        band == 0 ? (0, 0) : (1 << (band - 1), Math.Min((1 << band) - 1, context - 1));
}

/// <summary>Places of tokens as contexts come by in the order of the text.</summary>
internal sealed class TokenPlaces(ITokenizer tokenizer)
{
    private readonly Dictionary<int, TokenClass> classes = [];
    private int lastInSource = -1;

    /// <summary>Documents met so far.</summary>
    public int Documents { get; private set; }

    /// <summary>The last document's index in the source, and how many there were.</summary>
    public (int LastInSource, int Documents) State
    {
        get => (lastInSource, Documents);
        set => (lastInSource, Documents) = value;
    }

    /// <summary>[B x T], context after context.</summary>
    public TokenPlace[] Of(IEnumerable<PackedContext> batch)
    {
        var places = new List<TokenPlace>();
        foreach (var context in batch)
        {
            for (int position = 0; position < context.Tokens.Length; position++)
            {
                if (context.Documents[position] != lastInSource)
                {
                    lastInSource = context.Documents[position];
                    Documents++;
                }
                places.Add(new(TokenPlace.BandOf(position), ClassOf(context.Tokens[position]), Documents - 1));
            }
        }
        return [.. places];
    }

    public TokenClass ClassOf(int token)
    {
        if (!classes.TryGetValue(token, out var found))
        {
            found =
                token == tokenizer.BosId ? TokenClass.Bos
                : token == tokenizer.EosId ? TokenClass.Special
                : ClassOf(tokenizer.TokenText(token));
            classes.Add(token, found);
        }
        return found;
    }

    private static TokenClass ClassOf(string text)
    {
        string trimmed = text.TrimStart();
        if (trimmed.Length == 0)
        {
            return text.Length == 0 ? TokenClass.Special : TokenClass.Space;
        }
        if (text.Contains('\uFFFD', StringComparison.Ordinal))
        {
            return TokenClass.Other;
        }
        Rune.DecodeFromUtf16(trimmed, out var first, out _);
        return Rune.GetUnicodeCategory(first) switch
        {
            <= UnicodeCategory.EnclosingMark => trimmed.Length < text.Length
                ? TokenClass.WordStart
                : TokenClass.WordContinuation, // letters, and the marks that belong to them
            <= UnicodeCategory.OtherNumber => TokenClass.Digits,
            >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherSymbol => TokenClass.Punctuation,
            _ => TokenClass.Other,
        };
    }
}
