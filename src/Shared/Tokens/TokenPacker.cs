using Pipeline.Shared.Text;

namespace Pipeline.Shared.Tokens;

/// <summary>A context of consecutive tokens. The arrays have the same length.</summary>
/// <param name="Tokens">Ids.</param>
/// <param name="Documents">Index in the source of the document each token is from.</param>
/// <param name="Positions">Position in the document, its BOS at 0; -1 for a BOS put before a context that continues one.</param>
public sealed record PackedContext(int[] Tokens, int[] Documents, int[] Positions);

/// <summary>
/// Packs documents end to end into contexts of one length, without padding: a document longer than what is left of a
/// context goes on in the next.
/// </summary>
public sealed class TokenPacker
{
    private readonly ITokenizer tokenizer;
    private readonly int context;
    private readonly BosPolicy policy;
    private readonly bool separator;
    private readonly List<(int Token, int Document, int Position)> pending = [];

    /// <param name="tokenizer">Encodes the documents.</param>
    /// <param name="context">Tokens a context, at least 2.</param>
    /// <param name="policy">Where BOS goes.</param>
    /// <param name="separator">Whether EOS follows each document.</param>
    /// <param name="where">File and section of the settings, for messages.</param>
    /// <exception cref="ConfigurationException">BOS or EOS is asked of a tokenizer that has none.</exception>
    public TokenPacker(ITokenizer tokenizer, int context, BosPolicy policy, bool separator, string where)
    {
        (this.tokenizer, this.context, this.policy, this.separator) = (tokenizer, context, policy, separator);
        if (policy != BosPolicy.None && tokenizer.BosId is null)
        {
            throw Absent($"{where}.bos", "BOS", "Set it to none");
        }
        if (separator && tokenizer.EosId is null)
        {
            throw Absent($"{where}.separator", "EOS", "Set it to false");
        }
    }

    /// <summary>Full contexts; a rest at the end is given only if the text makes no full context, and holds 2 tokens or more.</summary>
    public IEnumerable<PackedContext> Pack(IEnumerable<(int Index, Document Document)> documents)
    {
        pending.Clear();
        bool any = false;
        foreach (var (index, document) in documents)
        {
            foreach (var entry in Entries(index, document))
            {
                bool continues = pending.Count == 0 && policy == BosPolicy.EachContext;
                if (continues)
                {
                    pending.Add((tokenizer.BosId!.Value, index, -1));
                }
                pending.Add(entry);
                if (pending.Count == context)
                {
                    any = true;
                    yield return Take();
                }
            }
        }
        if (!any && pending.Count >= 2)
        {
            yield return Take();
        }
    }

    private IEnumerable<(int Token, int Document, int Position)> Entries(int index, Document document)
    {
        int position = 0;
        if (policy == BosPolicy.EachDocument)
        {
            yield return (tokenizer.BosId!.Value, index, position++);
        }
        foreach (int token in tokenizer.Encode(document.Text))
        {
            yield return (token, index, position++);
        }
        if (separator)
        {
            yield return (tokenizer.EosId!.Value, index, position);
        }
    }

    private PackedContext Take()
    {
        var taken = new PackedContext(
            [.. pending.Select(p => p.Token)],
            [.. pending.Select(p => p.Document)],
            [.. pending.Select(p => p.Position)]
        );
        pending.Clear();
        return taken;
    }

    private static ConfigurationException Absent(string where, string token, string remedy) =>
        new(
            new Fault(
                where,
                $"{token} asked for",
                $"a tokenizer that has {token}; this one names none",
                remedy
            ).ToString()
        );
}
