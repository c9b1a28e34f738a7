namespace Pipeline.Shared.Tokens;

/// <summary>Where packing puts the begin-of-sequence token.</summary>
public enum BosPolicy
{
    /// <summary>Nowhere.</summary>
    None,

    /// <summary>Before every document.</summary>
    EachDocument,

    /// <summary>At the start of every context, document start or not.</summary>
    EachContext,
}
