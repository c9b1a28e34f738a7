using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>An SAE at its hook.</summary>
/// <param name="Hook">Whose activations it encodes.</param>
/// <param name="Target">Where its reconstruction belongs.</param>
/// <param name="Sae">Itself.</param>
internal sealed record HookedSae(HookPoint Hook, HookPoint Target, Autoencoder Sae);

/// <summary>
/// The SAEs of one name, spliced into the same forward at all of their hooks. Each encodes what reaches its hook, what those
/// before it did to the stream included, and so errors add up as they would in a model that runs on the SAEs alone.
/// </summary>
internal sealed class AllHooks
{
    /// <summary>In the order in which a forward reaches their targets.</summary>
    private readonly HookedSae[] saes;

    /// <param name="saes">Two or more, with different targets.</param>
    public AllHooks(IEnumerable<HookedSae> saes) =>
        this.saes = [.. saes.OrderBy(sae => sae.Target.Layer).ThenBy(sae => sae.Target.Site)];

    public SpliceScore Spliced { get; } = new();

    /// <summary>With zeros at every target at once.</summary>
    public SpliceScore Zero { get; } = new();

    public IEnumerable<HookPoint> Hooks => saes.Select(sae => sae.Hook);

    /// <summary>What the first of them encodes: nothing is replaced before it.</summary>
    public HookPoint FirstHook => saes[0].Hook;

    /// <summary>Whether the stream is all zeros somewhere once they are ablated, and one context's forward serves all.</summary>
    private bool AblatesWholeStream => saes.Any(sae => Ablations.IsWholeStreamAt(sae.Target));

    /// <summary>A batch's splice; of the caller's dispose scope.</summary>
    public Splice SpliceOf(CleanBatch clean)
    {
        var later = new ForwardHooks();
        foreach (var sae in saes.Skip(1))
        {
            if (sae.Hook == sae.Target)
            {
                later.Replace(sae.Target, x => Reconstruct(sae.Sae, x));
            }
            else
            {
                // A transcoder: both are of one block, whose scope the reconstruction lives in.
                Tensor? reconstruction = null;
                later.Read(sae.Hook, x => reconstruction = Reconstruct(sae.Sae, x));
                later.Replace(sae.Target, _ => reconstruction!);
            }
        }
        var valueBTD = Reconstruct(saes[0].Sae, clean.AtHook[FirstHook]);
        return new Splice(Spliced, saes[0].Target, valueBTD) { Later = later };
    }

    /// <summary>A batch's ablation, where each takes a forward of its own; of the caller's dispose scope.</summary>
    public Splice? ZeroOf(CleanBatch clean) =>
        AblatesWholeStream
            ? null
            : new Splice(Zero, saes[0].Target, zeros_like(clean.AtHook[FirstHook])) { Later = Zeros(saes.Skip(1)) };

    /// <summary>Scores the ablation of all contexts, where one forward serves them all.</summary>
    /// <param name="model">The model.</param>
    /// <param name="contexts">What was evaluated, T tokens each.</param>
    /// <param name="places">Of their tokens, one context after the other.</param>
    public void ScoreZeros(Transformer model, IReadOnlyList<PackedContext> contexts, TokenPlace[] places)
    {
        if (!AblatesWholeStream)
        {
            return;
        }
        using var scope = NewDisposeScope();
        var anyTokens1T = zeros([1, contexts[0].Tokens.Length], int64, model.Device);
        Ablations.ScoreShared(Zero, model, model.ForwardResidual(anyTokens1T, Zeros(saes)), contexts, places);
    }

    private static ForwardHooks Zeros(IEnumerable<HookedSae> saes)
    {
        var hooks = new ForwardHooks();
        foreach (var sae in saes)
        {
            hooks.Replace(sae.Target, x => zeros_like(x));
        }
        return hooks;
    }

    private static Tensor Reconstruct(Autoencoder sae, Tensor xBTD)
    {
        using var scope = NewDisposeScope();
        var reconstructionRD = sae.Decode(sae.Encode(xBTD.reshape(-1, sae.Width)));
        return reconstructionRD.view(xBTD.shape).MoveToOuterDisposeScope();
    }
}
