namespace Pipeline.Shared.Configuration;

/// <summary>What activations are multiplied by before an SAE sees them in training, taken from a sample.</summary>
public enum ActivationScale
{
    /// <summary>1.</summary>
    None,

    /// <summary>1 / √(mean |x|²): mean square norm 1 (Jumping Ahead, section 5).</summary>
    Unit,

    /// <summary>√D / mean |x|: mean norm √D (Anthropic, April 2024).</summary>
    SqrtD,
}
