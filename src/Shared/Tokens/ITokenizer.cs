namespace Pipeline.Shared.Tokens;

/// <summary>Text to token ids and back. Encoding adds neither BOS nor separator: packing does, where it is asked to.</summary>
public interface ITokenizer
{
    /// <summary>One more than the highest id.</summary>
    int VocabularySize { get; }

    /// <summary>Begin-of-sequence id, null where the tokenizer names none. 0 is an id like any other.</summary>
    int? BosId { get; }

    /// <summary>The id put between documents (<c>&lt;|endoftext|&gt;</c>, <c>&lt;/s&gt;</c>), null where there is none.</summary>
    int? EosId { get; }

    /// <summary>Lowercase hex SHA-256 over the tokenizer's files: its identity.</summary>
    string Hash { get; }

    IReadOnlyList<int> Encode(string text);

    string Decode(IReadOnlyList<int> ids);

    /// <summary>One token as a reader wants to see it; bytes that are no character of their own show as U+FFFD.</summary>
    string TokenText(int id);

    /// <summary>
    /// UTF-8 bytes of the text that a token stands for: over the tokens of a text they add up to the text's, as the tokenizer
    /// normalizes it. Unlike <see cref="TokenText"/>'s, also where a token ends within a character.
    /// </summary>
    /// <param name="id">The token.</param>
    /// <param name="first">Whether it is the text's first, which may stand for a blank that was put before the text.</param>
    int BytesOf(int id, bool first);
}
