using System.Collections.Concurrent;
using Pipeline.Evaluate.Report;
using Pipeline.Evaluate.Report.Browser;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Hub;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.View;

/// <summary>One SAE of a run.</summary>
/// <param name="Hook">Its hook.</param>
/// <param name="Name">Its folder's name.</param>
public sealed record ProbedSae(string Hook, string Name);

/// <summary>A latent's activation on one token.</summary>
public sealed record ProbedLatent(long Index, float Value);

/// <summary>A token, and the latents that fire on it, the strongest first.</summary>
/// <param name="Text">As a reader wants to see it.</param>
/// <param name="IsBos">Put before the text; its activations dwarf all others.</param>
/// <param name="Latents">Index and activation.</param>
public sealed record ProbedToken(string Text, bool IsBos, IReadOnlyList<ProbedLatent> Latents);

/// <summary>
/// A finished run's model and SAEs, loaded, to see which latents fire on any text:
/// <code>text ──> tokens ──> transformer up to the hook ──> SAE ──> latents of each token</code>
/// Calls may come from any thread; one runs at a time.
/// </summary>
public sealed class LatentProbe : IDisposable
{
    private readonly string runFolder;
    private readonly Transformer model;
    private readonly ITokenizer tokenizer;
    private readonly bool prependBos;
    private readonly Dictionary<ProbedSae, Autoencoder> loaded = [];
    private readonly ConcurrentDictionary<ProbedSae, FeatureFiles?> described = [];
    private readonly Lock oneAtATime = new();

    private LatentProbe(string runFolder, string modelFolder, RunSummary run)
    {
        this.runFolder = runFolder;
        var folder = ModelFolder.Open(modelFolder);
        RequireSameModel(folder, run.ModelHash);
        Saes = FindSaes(runFolder);
        tokenizer = Tokenizers.Load(modelFolder);
        model = folder.Load();
        prependBos = tokenizer.BosId is not null && run.HasBos != false;
    }

    /// <summary>The run's SAEs, by hook and name.</summary>
    public IReadOnlyList<ProbedSae> Saes { get; }

    /// <summary>The most tokens of one text, a BOS included.</summary>
    public int MaximumTokens => model.Config.Context;

    /// <exception cref="CorruptArtifactException">run.json is missing or damaged, or the model is another by now.</exception>
    /// <exception cref="ConfigurationException">No such model folder, or no trained SAE.</exception>
    public static LatentProbe Open(string runFolder)
    {
        var run = RunFolderReader.ReadRun(runFolder);
        string path = HubFolder.Resolve(run.ModelPath ?? run.ModelId, new NoProgress(), CancellationToken.None);
        return new LatentProbe(runFolder, path, run);
    }

    /// <summary>The latents that fire on each token; what is beyond <see cref="MaximumTokens"/> is cut off.</summary>
    /// <param name="sae">One of <see cref="Saes"/>.</param>
    /// <param name="text">Any text; empty text gives the BOS alone, or nothing.</param>
    public IReadOnlyList<ProbedToken> Probe(ProbedSae sae, string text)
    {
        long[] ids =
        [
            .. (prependBos ? [tokenizer.BosId!.Value] : Array.Empty<int>())
                .Concat(tokenizer.Encode(text))
                .Take(MaximumTokens)
                .Select(id => (long)id),
        ];
        if (ids.Length == 0)
        {
            return [];
        }
        lock (oneAtATime)
        {
            using var none = no_grad();
            using var scope = NewDisposeScope();
            var latents = Encode(sae, ids);
            long[] indices = CpuKernels.ToArray<long>(latents.IndicesBK);
            float[] values = CpuKernels.ToArray<float>(latents.ValuesBK);
            int kept = indices.Length / ids.Length;
            return
            [
                .. ids.Select(
                    (id, token) =>
                        new ProbedToken(
                            tokenizer.TokenText((int)id),
                            prependBos && token == 0,
                            [
                                .. Enumerable
                                    .Range(token * kept, kept)
                                    .Where(at => values[at] > 0)
                                    .OrderByDescending(at => values[at])
                                    .Select(at => new ProbedLatent(indices[at], values[at])),
                            ]
                        )
                ),
            ];
        }
    }

    /// <summary>What evaluation knows of every latent of an SAE, as its JSON; null where it described none.</summary>
    public string? FeatureIndex(ProbedSae sae) => Features(sae)?.Index.Element.GetRawText();

    /// <summary>One block of an SAE's described latents, as its JSON; null where there is none of that number.</summary>
    public string? FeatureBlock(ProbedSae sae, int number) =>
        Features(sae) is { } features && number >= 0 && number < features.Blocks
            ? features.Block(number).Element.GetRawText()
            : null;

    /// <summary>The SAE's feature browser, seen from the run's folder; null where the report has none.</summary>
    public string? BrowserPage(ProbedSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        string hookAndSae = $"{sae.Hook}/{sae.Name}";
        return Directory.Exists(Path.Combine(runFolder, "report", BrowserFolder.NameOf(hookAndSae)))
            ? $"report/{BrowserFolder.LinkTo(hookAndSae)}"
            : null;
    }

    private FeatureFiles? Features(ProbedSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        return described.GetOrAdd(
            sae,
            each => FeatureFiles.TryOpen(runFolder, $"{each.Hook}/{each.Name}", "Run the evaluate stage again")
        );
    }

    public void Dispose()
    {
        foreach (var sae in loaded.Values)
        {
            sae.Dispose();
        }
        model.Dispose();
    }

    private SparseLatents Encode(ProbedSae sae, long[] ids)
    {
        if (!loaded.TryGetValue(sae, out var autoencoder))
        {
            autoencoder = EvaluatedSae.LoadTrained(Path.Combine(runFolder, "train", sae.Hook, sae.Name));
            loaded.Add(sae, autoencoder);
        }
        Tensor? activationsTD = null;
        var hook = HookPoint.Parse(sae.Hook, model.Config.Layers, sae.Hook);
        var hooks = new ForwardHooks().Read(hook, x => activationsTD = x[0].clone().DetachFromDisposeScope());
        model.RunHooks(tensor(ids, 1, ids.Length, dtype: int64), hooks);
        var latents = autoencoder.Encode(activationsTD!);
        activationsTD!.Dispose();
        return latents;
    }

    private static List<ProbedSae> FindSaes(string runFolder)
    {
        string train = Path.Combine(runFolder, "train");
        List<ProbedSae> saes = Directory.Exists(train)
            ?
            [
                .. Directory
                    .EnumerateFiles(train, SaeLensFormat.WeightsName, SearchOption.AllDirectories)
                    .Select(file =>
                        Path.GetRelativePath(train, Path.GetDirectoryName(file)!).Split(Path.DirectorySeparatorChar)
                    )
                    .Where(parts => parts.Length == 2)
                    .Select(parts => new ProbedSae(parts[0], parts[1]))
                    .OrderBy(sae => sae.Hook, StringComparer.Ordinal)
                    .ThenBy(sae => sae.Name, StringComparer.Ordinal),
            ]
            : [];
        return saes.Count > 0
            ? saes
            : throw new ConfigurationException(
                new Fault(train, "no trained SAE", "one or more", "Run the pipeline into this folder first").ToString()
            );
    }

    private static void RequireSameModel(ModelFolder folder, string? expected)
    {
        if (expected is not null && folder.Hash() is var found && found != expected)
        {
            throw new CorruptArtifactException(
                new Fault(
                    folder.Path,
                    $"a model of hash {found}",
                    $"{expected}, the model this run was made with",
                    "Restore that model, or run the pipeline again"
                ).ToString()
            );
        }
    }
}
