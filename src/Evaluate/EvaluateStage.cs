using System.Diagnostics;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// <code>
/// held-out text ──> contexts ──> clean forward ──> activations ──SAE──> x̂ ──splice──> loss, KL ──> metrics.json
///                                                      └── text each latent fires on ──> features.json
/// </code>
/// One clean forward serves every SAE; each SAE, and the zero and mean baselines of each hook, take one more.
/// </summary>
public sealed class EvaluateStage
{
    public const string MetricsName = "metrics.json";
    public const string FeaturesName = "features.json";

    private static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private readonly RunInputs run;
    private readonly EvaluateConfig config;
    private readonly IProgressSink progress;
    private readonly CancellationToken cancel;
    private readonly List<Subject> subjects;

    /// <summary>Of every hook at which a reconstruction is spliced in.</summary>
    private readonly Dictionary<HookPoint, Baselines> baselines;
    private double cleanLoss;
    private long scored;

    /// <summary>Tokens whose mean is taken, and of those evaluated, so far.</summary>
    private long meanTokens;
    private long tokens;

    private EvaluateStage(
        RunInputs run,
        IReadOnlyList<(HookPoint Hook, SaeConfig Sae, StageFolder Folder)> pending,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        (this.run, config, this.progress, this.cancel) = (run, run.Config.Evaluate, progress, cancel);
        subjects = [.. pending.Select(p => new Subject(run, p.Hook, p.Sae, p.Folder))];
        int width = run.Model.Config.Width;
        baselines = subjects.Select(s => s.Target).Distinct().ToDictionary(hook => hook, _ => new Baselines(width));
    }

    /// <summary>The stage's folder for one SAE, compared with what it would be made from now.</summary>
    public static StageFolder Folder(RunInputs run, HookPoint hook, SaeConfig sae, string trainFingerprint)
    {
        var config = ConfigurationJson.ToJson(run.Config.Evaluate);
        config["features"] = run.Config.Report.Features;
        config.Remove("checkpointEvery");
        return new StageFolder(
            run.EvaluationFolder(hook, sae),
            "evaluate",
            config,
            [run.ModelInput, run.TokenizerInput, run.TextInput, new ManifestInput("train", "train", trainFingerprint)]
        );
    }

    /// <exception cref="RunInterruptedException">Cancelled; a checkpoint was written first.</exception>
    public static void Run(
        RunInputs run,
        IReadOnlyList<(HookPoint Hook, SaeConfig Sae, StageFolder Folder)> pending,
        IProgressSink progress,
        CancellationToken cancel
    ) => new EvaluateStage(run, pending, progress, cancel).Run();

    /// <summary>In the folder that is sealed last: while any SAE is unfinished, it is there.</summary>
    private CheckpointFolder Checkpoints => subjects[^1].Folder.Checkpoints;

    private void Run()
    {
        var clock = Stopwatch.StartNew();
        subjects.ForEach(subject => subject.Folder.Begin(run.Environment, run.AllowDrift));
        using var none = no_grad();
        RestoreCheckpoint();
        using var model = run.Model.Load(run.Device);
        ForEachBatch(
            "evaluate (means)",
            meanTokens,
            batch =>
            {
                var hooks = new ForwardHooks();
                foreach (var (hook, baseline) in baselines)
                {
                    hooks.Read(hook, baseline.AddToMean);
                }
                model.RunHooks(ContextTensor.Of(batch, run.Device), hooks);
                meanTokens += Tokens(batch);
            }
        );
        ForEachBatch(
            "evaluate",
            tokens,
            batch =>
            {
                var clean = CleanBatch.Run(
                    model,
                    ContextTensor.Of(batch, run.Device),
                    [.. baselines.Keys.Union(subjects.Select(s => s.Hook))]
                );
                cleanLoss += clean.Loss;
                scored += clean.Scored;
                foreach (var (hook, baseline) in baselines)
                {
                    baseline.Add(model, clean, hook);
                }
                subjects.ForEach(subject => subject.Add(model, clean, batch));
                tokens += Tokens(batch);
            }
        );
        // One pass served them all: each bears its share of the time.
        var share = clock.Elapsed / subjects.Count;
        subjects.ForEach(subject => Seal(subject, share));
        subjects.ForEach(subject => subject.Dispose());
    }

    private static long Tokens(PackedContext[] batch) => batch.Sum(context => (long)context.Tokens.Length);

    /// <summary>Calls for each batch of held-out text after the first <paramref name="done"/> tokens; checkpoints between.</summary>
    private void ForEachBatch(string task, long done, Action<PackedContext[]> action)
    {
        long seen = 0;
        long sinceCheckpoint = 0;
        foreach (var batch in run.Batches(heldOut: true, config.Tokens.Value, config.Batch))
        {
            seen += Tokens(batch);
            if (seen <= done)
            {
                continue;
            }
            if (cancel.IsCancellationRequested)
            {
                SaveCheckpoint();
                throw new RunInterruptedException($"{task}: interrupted. Run the command again to go on from there.");
            }
            if (sinceCheckpoint >= config.CheckpointEvery.Value)
            {
                SaveCheckpoint();
                sinceCheckpoint = 0;
            }
            using var scope = NewDisposeScope();
            action(batch);
            sinceCheckpoint += Tokens(batch);
            progress.Update(task, seen, Math.Max(seen, config.Tokens.Value), "tokens");
        }
        if (seen == 0)
        {
            throw new ConfigurationException(
                new Fault(
                    $"text: {run.Config.Text}",
                    "held-out documents without two tokens",
                    "held-out text to evaluate on",
                    "Raise harvest.heldOut or give more text"
                ).ToString()
            );
        }
        progress.Update(task, seen, seen, "tokens");
    }

    private void SaveCheckpoint()
    {
        using var scope = NewDisposeScope();
        var state = new List<(string, Tensor)> { ("totals", tensor(new[] { cleanLoss, scored, meanTokens, tokens })) };
        foreach (var (hook, baseline) in baselines)
        {
            state.Add(($"{hook}/baseline", tensor(baseline.State)));
        }
        foreach (var subject in subjects)
        {
            state.AddRange(subject.State().Select(part => ($"{subject.Folder.Fingerprint}/{part.Name}", part.Value)));
        }
        Checkpoints.Save(meanTokens + tokens, stream => SafetensorsWriter.Write(stream, state), []);
    }

    /// <summary>Takes up a checkpoint that knows all of these SAEs; of those it knows some may be finished by now.</summary>
    private void RestoreCheckpoint()
    {
        if (Checkpoints.Open() is not { } checkpoint)
        {
            return;
        }
        using var scope = NewDisposeScope();
        using var file = SafetensorsFile.Open(checkpoint.Path);
        bool knowsAll =
            subjects.All(subject => file.Shapes.ContainsKey($"{subject.Folder.Fingerprint}/all"))
            && baselines.Keys.All(hook => file.Shapes.ContainsKey($"{hook}/baseline"));
        if (!knowsAll)
        {
            return;
        }
        double[] Numbers(string name) => file.Load(name).data<double>().ToArray();
        double[] totals = Numbers("totals");
        (cleanLoss, scored, meanTokens, tokens) = (totals[0], (long)totals[1], (long)totals[2], (long)totals[3]);
        foreach (var (hook, baseline) in baselines)
        {
            baseline.State = Numbers($"{hook}/baseline");
        }
        foreach (var subject in subjects)
        {
            subject.Restore(name => file.Load($"{subject.Folder.Fingerprint}/{name}"));
        }
    }

    private void Seal(Subject subject, TimeSpan wall)
    {
        var baseline = baselines[subject.Target];
        double clean = cleanLoss / scored;
        double spliced = subject.Spliced.CrossEntropy;
        var metrics = subject.All.ToJson(run.Model.Config.Width);
        metrics["scored_tokens"] = scored;
        metrics["ce_clean"] = clean;
        metrics["ce_spliced"] = spliced;
        metrics["ce_zero"] = baseline.Zero.CrossEntropy;
        metrics["ce_mean"] = baseline.Mean.CrossEntropy;
        metrics["loss_recovered"] = SpliceScore.Recovered(clean, spliced, baseline.Zero.CrossEntropy);
        metrics["loss_recovered_mean"] = SpliceScore.Recovered(clean, spliced, baseline.Mean.CrossEntropy);
        metrics["ce_delta"] = spliced - clean;
        metrics["kl"] = subject.Spliced.Divergence;
        metrics["dead_fraction"] = subject.Examples.Dead / (double)subject.Sae.Features;
        metrics["density_histogram"] = subject.Examples.DensityHistogram();
        metrics["without_bos"] = subject.WithoutBos.ToJson(run.Model.Config.Width);
        metrics["definitions"] = MetricDefinitions.ToJson();
        ManifestOutput Publish(string name, JsonObject json)
        {
            string path = Path.Combine(subject.Folder.Path, name);
            var digest = AtomicFile.WriteText(path, json.ToJsonString(Indented) + "\n");
            return ManifestOutput.Of(name, digest);
        }
        subject.Folder.Complete(
            [Publish(MetricsName, metrics), Publish(FeaturesName, subject.Examples.ToJson(run.Config.Report.Features))],
            new JsonObject { ["loss_recovered"] = metrics["loss_recovered"]!.DeepClone() },
            run.Provenance(wall)
        );
    }

    /// <summary>Zero and mean ablation of one hook, shared by its SAEs.</summary>
    private sealed class Baselines(int width)
    {
        private readonly double[] sumD = new double[width];
        private long tokens;

        public SpliceScore Zero { get; } = new(measuresDivergence: false);

        public SpliceScore Mean { get; } = new(measuresDivergence: false);

        /// <summary>Everything summed so far.</summary>
        public double[] State
        {
            get => [tokens, .. Zero.State, .. Mean.State, .. sumD];
            set
            {
                tokens = (long)value[0];
                Zero.State = value[1..4];
                Mean.State = value[4..7];
                value.AsSpan(7).CopyTo(sumD);
            }
        }

        public void AddToMean(Tensor xBTD)
        {
            using var scope = NewDisposeScope();
            double[] batchSum = xBTD.reshape(-1, width).to(float64).sum(dim: 0).cpu().data<double>().ToArray();
            for (int i = 0; i < width; i++)
            {
                sumD[i] += batchSum[i];
            }
            tokens += xBTD.shape[0] * xBTD.shape[1];
        }

        public void Add(Transformer model, CleanBatch clean, HookPoint hook)
        {
            using var scope = NewDisposeScope();
            float[] meanD = [.. sumD.Select(sum => (float)(sum / tokens))];
            var x = clean.AtHook[hook];
            Zero.Add(model, clean, hook, zeros_like(x));
            Mean.Add(model, clean, hook, tensor(meanD, device: x.device).expand_as(x).contiguous());
        }
    }

    /// <summary>One SAE under evaluation.</summary>
    private sealed class Subject(RunInputs run, HookPoint hook, SaeConfig config, StageFolder folder) : IDisposable
    {
        public HookPoint Hook => hook;

        /// <summary>Where the reconstruction belongs.</summary>
        public HookPoint Target { get; } = RunInputs.TargetOf(hook, config);

        public StageFolder Folder => folder;

        public Autoencoder Sae { get; } = LoadTrained(run.SaeFolder(hook, config)).To(run.Device);

        public ReconstructionMetrics All { get; } = new(run.Model.Config.Width);

        public ReconstructionMetrics WithoutBos { get; } = new(run.Model.Config.Width);

        public SpliceScore Spliced { get; } = new(measuresDivergence: true);

        public FeatureExamples Examples { get; } = new(config.FeaturesFor(run.Model.Config.Width), run.Tokenizer);

        public void Add(Transformer model, CleanBatch clean, PackedContext[] batch)
        {
            using var scope = NewDisposeScope();
            var xBTD = clean.AtHook[hook];
            var latents = Sae.Encode(xBTD.reshape(-1, Sae.Width));
            var reconstructionRD = Sae.Decode(latents);
            var targetRD = clean.AtHook[Target].reshape(-1, Sae.Width);
            All.Add(targetRD, reconstructionRD, latents.ValuesBK);
            var keptR = NotBos(batch);
            WithoutBos.Add(
                targetRD.index_select(0, keptR),
                reconstructionRD.index_select(0, keptR),
                latents.ValuesBK.index_select(0, keptR)
            );
            Examples.Add(
                batch,
                latents.IndicesBK.cpu().data<long>().ToArray(),
                latents.ValuesBK.cpu().data<float>().ToArray()
            );
            Spliced.Add(model, clean, Target, reconstructionRD.view(xBTD.shape));
        }

        /// <summary>Everything summed and kept so far, by name.</summary>
        public IEnumerable<(string Name, Tensor Value)> State() =>
            [
                ("all", tensor(All.State)),
                ("without_bos", tensor(WithoutBos.State)),
                ("spliced", tensor(Spliced.State)),
                .. Examples.State().Select(part => ($"examples/{part.Name}", part.Value)),
            ];

        public void Restore(Func<string, Tensor> load)
        {
            All.State = load("all").data<double>().ToArray();
            WithoutBos.State = load("without_bos").data<double>().ToArray();
            Spliced.State = load("spliced").data<double>().ToArray();
            Examples.Restore(name => load($"examples/{name}"));
        }

        public void Dispose() => Sae.Dispose();

        private static Autoencoder LoadTrained(string folder)
        {
            Manifest.RequireWhole(folder);
            return new SaeLensFormat().Load(folder).Sae;
        }

        private Tensor NotBos(PackedContext[] batch)
        {
            int? bos = run.Tokenizer.BosId;
            long[] rows =
            [
                .. batch
                    .SelectMany(context => context.Tokens)
                    .Select((token, row) => (token, row: (long)row))
                    .Where(entry => entry.token != bos)
                    .Select(entry => entry.row),
            ];
            return tensor(rows, dtype: int64, device: run.Device);
        }
    }
}
