using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>Where an SAE's activations come from, as far as its file says.</summary>
/// <param name="ModelName">The language model, or "".</param>
/// <param name="HookName">TransformerLens' name, e.g. <c>blocks.3.hook_resid_post</c>, or "".</param>
/// <param name="ContextSize">Tokens a context, or 0.</param>
/// <param name="DatasetPath">The text, or "".</param>
/// <param name="PrependBos">Whether a BOS stood before each text.</param>
public sealed record SaeOrigin(
    string ModelName = "",
    string HookName = "",
    int ContextSize = 0,
    string DatasetPath = "",
    bool PrependBos = true
)
{
    /// <summary>The hook whose activations a transcoder reconstructs; null for autoencoders.</summary>
    public string? TargetHookName { get; init; }
}

/// <summary>How an SAE was trained, where its file's architecture (what it does at inference) does not say.</summary>
/// <param name="Architecture">E.g. batchtopk, saved as jumprelu.</param>
/// <param name="K">Latents kept on average, or null.</param>
/// <param name="GroupSizes">Latents of each Matryoshka group, or null.</param>
public sealed record SaeTraining(string Architecture, int? K = null, IReadOnlyList<int>? GroupSizes = null);

/// <summary>An SAE with everything its file says of it.</summary>
public sealed record SaeFile(Autoencoder Sae, SaeOrigin Origin, SaeTraining Training) : IDisposable
{
    /// <summary>Each latent's share of tokens it fired on, [F], or null.</summary>
    public Tensor? FrequencyF { get; init; }

    public void Dispose()
    {
        Sae.Dispose();
        FrequencyF?.Dispose();
    }
}
