using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>What came of taking one latent's contribution away, at the token on which it is highest.</summary>
/// <param name="Latent">Which.</param>
/// <param name="TopDrop">Mean fall of the logits of the tokens its direct effect raises most.</param>
/// <param name="PredictedTopDrop">That fall according to the direct effect.</param>
/// <param name="AnyDrop">Mean fall over the vocabulary: a random token's, in expectation.</param>
/// <param name="Correlation">Pearson's, over the vocabulary, of the logits' change and the predicted one.</param>
internal sealed record DirectEffect(
    int Latent,
    double TopDrop,
    double PredictedTopDrop,
    double AnyDrop,
    double Correlation
);

/// <summary>
/// Whether latents do what <see cref="DirectLogitEffect"/> says they do. A latent's contribution, activation times decoder row,
/// is taken from the stream at the token on which it is highest, the model runs on from there, and the change of that token's
/// logits is compared with the predicted one. A latent whose work is done by others (absorption), or whose direction later
/// blocks read and turn into something else, shows less than is predicted.
/// <code>contexts up to the peak ──> clean stream ──┬─ less the contribution ─> logits ─┐
///                                              └─────────────────────────> logits ─┴─> change ~ direct effect?</code>
/// </summary>
/// <param name="model">The model.</param>
/// <param name="sae">Whose latents.</param>
/// <param name="vocabulary">Tokens that are compared, the first: ids beyond the tokenizer's pad matrices to a round size.</param>
internal sealed class DirectEffectCheck(Transformer model, HookedSae sae, int vocabulary)
{
    public const int TopTokens = 10;

    /// <param name="peaks">Of each latent, the context of its highest token up to that token, and the latent.</param>
    /// <param name="tokensAtATime">The most tokens a forward takes.</param>
    /// <param name="stopIfCancelled">Called between forwards.</param>
    /// <returns>In no particular order.</returns>
    public IReadOnlyList<DirectEffect> Of(
        IEnumerable<(int Latent, int[] Tokens)> peaks,
        int tokensAtATime,
        Action stopIfCancelled
    )
    {
        var effects = new List<DirectEffect>();
        var group = new List<(int Latent, int[] Tokens)>();
        // Those of a forward are of nearly one length, as they come by rising length; what follows a peak does not matter.
        foreach (var peak in peaks.OrderBy(peak => peak.Tokens.Length).ThenBy(peak => peak.Latent))
        {
            if (group.Count > 0 && (group.Count + 1) * peak.Tokens.Length > tokensAtATime)
            {
                Flush();
            }
            group.Add(peak);
        }
        if (group.Count > 0)
        {
            Flush();
        }
        return effects;

        void Flush()
        {
            stopIfCancelled();
            effects.AddRange(OfGroup(group));
            group.Clear();
        }
    }

    /// <summary>direct_effect of metrics.json; null where no latent could be tried.</summary>
    public static JsonObject? ToJson(IReadOnlyList<DirectEffect> effects) =>
        effects.Count == 0
            ? null
            : new JsonObject
            {
                ["latents"] = effects.Count,
                ["top_tokens"] = TopTokens,
                ["top_token_drop"] = MetricNumber.Of(effects.Average(effect => effect.TopDrop)),
                ["predicted_top_token_drop"] = MetricNumber.Of(effects.Average(effect => effect.PredictedTopDrop)),
                ["random_token_drop"] = MetricNumber.Of(effects.Average(effect => effect.AnyDrop)),
                ["correlation"] = MetricNumber.Of(effects.Average(effect => effect.Correlation)),
            };

    private List<DirectEffect> OfGroup(List<(int Latent, int[] Tokens)> peaks)
    {
        using var scope = NewDisposeScope();
        var (tokensPT, rowsP) = TokenLists.Batch([.. peaks.Select(peak => peak.Tokens)], model.Device);
        var hooks = new[] { sae.Hook, sae.Target }.Distinct().ToList();
        var clean = CleanBatch.Run(model, tokensPT, [], hooks);

        var contributionPD = Contribution(Rows(clean.AtHook[sae.Hook], rowsP), [.. peaks.Select(peak => peak.Latent)]);
        var ablatedPTD = clean.AtHook[sae.Target].clone();
        ablatedPTD.view(-1, contributionPD.shape[1]).index_add_(0, rowsP, -contributionPD, 1);
        var cleanPD = Rows(clean.ResidBTD, rowsP);
        var residPD = Rows(model.ForwardResidualWith(tokensPT, sae.Target, ablatedPTD), rowsP);
        var fallPV = (model.Unembed(cleanPD) - model.Unembed(residPD)).narrow(1, 0, vocabulary);
        var predictedPV = new DirectLogitEffect(model).Of(contributionPD).narrow(1, 0, vocabulary) / NormScale(cleanPD);
        return [.. Enumerable.Range(0, peaks.Count).Select(p => Compare(peaks[p].Latent, fallPV[p], predictedPV[p]))];
    }

    /// <summary>What each row's reconstruction loses without its latent, [P, D]: activation x decoder row, in the units of x.</summary>
    private Tensor Contribution(Tensor xPD, long[] latents)
    {
        using var scope = NewDisposeScope();
        var encoded = sae.Sae.Encode(xPD);
        var ownP1 = tensor(latents, device: xPD.device).unsqueeze(1);
        var without = encoded with { ValuesBK = encoded.ValuesBK.masked_fill(encoded.IndicesBK == ownP1, 0) };
        return (sae.Sae.Decode(encoded) - sae.Sae.Decode(without)).MoveToOuterDisposeScope();
    }

    private static DirectEffect Compare(int latent, Tensor fallV, Tensor predictedV)
    {
        using var scope = NewDisposeScope();
        var (topPredicted, topTokens) = predictedV.topk((int)Math.Min(TopTokens, predictedV.shape[0]));
        var centredFallV = (fallV - fallV.mean()).to(float64);
        var centredPredictedV = (predictedV - predictedV.mean()).to(float64);
        var correlation = centredFallV.dot(centredPredictedV) / (centredFallV.norm() * centredPredictedV.norm());
        return new DirectEffect(
            latent,
            fallV.index_select(0, topTokens).mean().item<float>(),
            topPredicted.mean().item<float>(),
            fallV.mean().item<float>(),
            correlation.item<double>()
        );
    }

    /// <summary>What the final norm divides each row by, [P, 1].</summary>
    private Tensor NormScale(Tensor residPD)
    {
        using var scope = NewDisposeScope();
        var centredPD = model.Config.Norm == NormKind.LayerNorm ? residPD - residPD.mean([-1], keepdim: true) : residPD;
        var meanSquareP1 = centredPD.square().mean([-1], keepdim: true);
        return (meanSquareP1 + model.Config.NormEpsilon).sqrt().MoveToOuterDisposeScope();
    }

    private static Tensor Rows(Tensor xPTD, Tensor rowsP) => xPTD.reshape(-1, xPTD.shape[^1]).index_select(0, rowsP);
}
