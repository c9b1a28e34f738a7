using System.Globalization;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;

namespace Pipeline.Evaluate.Scaling;

/// <summary>
/// The k-sparse autoencoders of one hook, which differ in size and sparsity alone: what a law is fitted to.
/// </summary>
/// <param name="Hook">Where they are trained.</param>
/// <param name="Saes">By n, then k.</param>
public sealed record ScalingGrid(HookPoint Hook, IReadOnlyList<SaeConfig> Saes)
{
    /// <summary>Sizes, and sparsities, that a grid has at least.</summary>
    public const int FewestOfEach = 4;

    /// <summary>The grid of every hook at which k-sparse autoencoders are trained; none without a scaling section.</summary>
    /// <exception cref="ConfigurationException">No such autoencoders, or at one hook they are no grid.</exception>
    public static IReadOnlyList<ScalingGrid> Of(RunInputs run)
    {
        ArgumentNullException.ThrowIfNull(run);
        if (run.Config.Scaling is null)
        {
            return [];
        }
        int width = run.Model.Config.Width;
        List<ScalingGrid> grids =
        [
            .. run
                .Saes.Where(entry => entry.Sae.IsKSparse)
                .GroupBy(entry => entry.Hook, entry => entry.Sae)
                .Select(hook => new ScalingGrid(
                    hook.Key,
                    [.. hook.OrderBy(sae => sae.FeaturesFor(width)).ThenBy(sae => sae.K)]
                )),
        ];
        if (grids.Count == 0)
        {
            throw Refuse(
                new Fault(
                    "scaling: train.saes",
                    Names(run.Saes.Select(entry => entry.Sae), width),
                    "autoencoders of the k-sparse family (topk, batchtopk, matryoshka-batchtopk)",
                    "Sweep one over features and k in train.sweep, or remove the scaling section"
                )
            );
        }
        grids.ForEach(grid => grid.Require(width));
        return grids;
    }

    /// <summary>Why sizes and sparsities are no grid a law can be fitted to; null where they are one.</summary>
    /// <param name="where">What the fault is of.</param>
    /// <param name="cells">(n, k) of each autoencoder.</param>
    internal static Fault? FaultOf(string where, IReadOnlyList<(long Latents, long K)> cells)
    {
        long[] sizes = [.. cells.Select(cell => cell.Latents).Distinct().Order()];
        long[] sparsities = [.. cells.Select(cell => cell.K).Distinct().Order()];
        var lacking = sizes.SelectMany(n => sparsities.Select(k => (Latents: n, K: k))).Except(cells).ToList();
        bool isSmall = sizes.Length < FewestOfEach || sparsities.Length < FewestOfEach;
        if (!isSmall && lacking.Count == 0 && cells.Distinct().Count() == cells.Count)
        {
            return null;
        }
        string without =
            lacking.Count == 0
                ? ""
                : $", without {string.Join(", ", lacking.Select(cell => Invariant($"n {cell.Latents} k {cell.K}")))}";
        return new Fault(
            where,
            Invariant(
                $"{cells.Count} autoencoders of {sizes.Length} sizes ({Join(sizes)}) and {sparsities.Length} sparsities ({Join(sparsities)}){without}"
            ),
            Invariant($"at least {FewestOfEach} of each, and every combination once"),
            "Sweep features (or expansion) and k in train.sweep"
        );
    }

    private void Require(int width)
    {
        string where = $"scaling: train.saes at {Hook}";
        foreach (var sae in Saes.Skip(1))
        {
            if (JsonDifference.First(OtherSettings(Saes[0]), OtherSettings(sae)) is { } difference)
            {
                throw Refuse(
                    new Fault(
                        where,
                        $"{Saes[0].Identifier(width)} with {difference.Path} {difference.Before} and "
                            + $"{sae.Identifier(width)} with {difference.After}, among {Names(Saes, width)}",
                        "k-sparse autoencoders that differ in features and k alone",
                        "Train the others in a pipeline of their own, or at other hooks (train.saes[].hooks)"
                    )
                );
            }
        }
        if (FaultOf(where, [.. Saes.Select(sae => ((long)sae.FeaturesFor(width), (long)sae.K!.Value))]) is { } fault)
        {
            throw Refuse(fault);
        }
    }

    /// <summary>Every setting but size, sparsity, name and place.</summary>
    private static System.Text.Json.Nodes.JsonObject OtherSettings(SaeConfig sae) =>
        ConfigurationJson.ToJson(sae with { Name = null, Hooks = null, Expansion = 1, Features = null, K = 1 });

    private static string Names(IEnumerable<SaeConfig> saes, int width) =>
        string.Join(", ", saes.Select(sae => sae.Identifier(width)).Distinct());

    private static string Join(IEnumerable<long> numbers) => string.Join(", ", numbers.Select(n => Invariant($"{n}")));

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static ConfigurationException Refuse(Fault fault) => new(fault.ToString());
}
