using Pipeline.Evaluate.Features;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>One SAE under evaluation.</summary>
internal sealed class EvaluatedSae(RunInputs run, HookPoint hook, SaeConfig config, StageFolder folder) : IDisposable
{
    public HookPoint Hook => hook;

    public SaeConfig Config => config;

    public string Name { get; } = config.Identifier(run.Model.Config.Width);

    /// <summary>Where the reconstruction belongs.</summary>
    public HookPoint Target { get; } = RunInputs.TargetOf(hook, config);

    public StageFolder Folder => folder;

    public Autoencoder Sae { get; } = LoadTrained(run.SaeFolder(hook, config)).To(run.Device);

    public ReconstructionMetrics Reconstruction { get; } = new();

    public SpliceScore Spliced { get; } = new();

    public FeatureExamples Examples { get; } = new(config.FeaturesFor(run.Model.Config.Width), run.Tokenizer.BosId);

    public LatentSample Sample { get; } =
        new(RandomStreams.Derive(run.Config.Seed, "evaluate", "contexts"), run.Tokenizer.BosId);

    /// <summary>The SAEs of its name at all hooks; null where it is the only one.</summary>
    public AllHooks? Together { get; set; }

    /// <summary>Its baselines; null where none are asked for.</summary>
    public Baseline? Pca { get; set; }

    /// <inheritdoc cref="Pca"/>
    public Baseline? Random { get; set; }

    /// <summary>Takes a batch in, but for its splice.</summary>
    /// <param name="clean">The batch through the untouched model.</param>
    /// <param name="batch">Its contexts.</param>
    /// <returns>That splice, of the caller's dispose scope.</returns>
    public Splice Add(CleanBatch clean, PackedContext[] batch)
    {
        using var scope = NewDisposeScope();
        var xBTD = clean.AtHook[hook];
        var latents = Sae.Encode(xBTD.reshape(-1, Sae.Width));
        var reconstructionRD = Sae.Decode(latents);
        float[] values = CpuKernels.ToArray<float>(latents.ValuesBK);
        Measure(clean.Places, clean.ValuesAt(Target), CpuKernels.ToArray<float>(reconstructionRD), values);
        long[] indices = CpuKernels.ToArray<long>(latents.IndicesBK);
        Examples.Add(batch, indices, values);
        Sample.Add(batch, indices, values);
        return new Splice(Spliced, Target, reconstructionRD.view(xBTD.shape).MoveToOuterDisposeScope());
    }

    /// <summary>Everything summed and kept so far, by name.</summary>
    public IEnumerable<(string Name, Tensor Value)> State() =>
        [
            ("reconstruction", tensor(Reconstruction.Sums.State)),
            .. Shared().Select(part => (part.Name, tensor(part.Sums.State))),
            .. Examples.State().Select(part => ($"examples/{part.Name}", part.Value)),
            .. Sample.State().Select(part => ($"sample/{part.Name}", part.Value)),
        ];

    public void Restore(Func<string, Tensor> load)
    {
        Reconstruction.Sums.State = CpuKernels.ToArray<double>(load("reconstruction"));
        foreach (var (name, sums) in Shared())
        {
            sums.State = CpuKernels.ToArray<double>(load(name));
        }
        Examples.Restore(name => load($"examples/{name}"));
        Sample.Restore(name => load($"sample/{name}"));
    }

    public void Dispose() => Sae.Dispose();

    public static Autoencoder LoadTrained(string folder)
    {
        Manifest.RequireWhole(folder);
        return new SaeLensFormat().Load(folder).Sae;
    }

    /// <summary>Its own splice's sums, and those it has in common with others: each keeps them for itself.</summary>
    private IEnumerable<(string Name, GroupedSums Sums)> Shared()
    {
        yield return ("spliced", Spliced.Sums);
        if (Together is not null)
        {
            yield return ("all hooks/spliced", Together.Spliced.Sums);
            yield return ("all hooks/zero", Together.Zero.Sums);
        }
        foreach (var (name, baseline) in new[] { ("pca", Pca), ("random", Random) })
        {
            if (baseline is not null)
            {
                yield return ($"{name}/error", baseline.SquaredError);
                yield return ($"{name}/spliced", baseline.Spliced.Sums);
            }
        }
    }

    /// <summary>Row-major [R, D], [R, D] and [R, K].</summary>
    private void Measure(TokenPlace[] places, float[] targetsRD, float[] reconstructionsRD, float[] valuesRK)
    {
        int d = Sae.Width;
        int kept = valuesRK.Length / places.Length;
        for (int row = 0; row < places.Length; row++)
        {
            Reconstruction.Add(
                places[row],
                targetsRD.AsSpan(row * d, d),
                reconstructionsRD.AsSpan(row * d, d),
                valuesRK.AsSpan(row * kept, kept)
            );
        }
    }
}
