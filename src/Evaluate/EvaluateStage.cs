using System.Diagnostics;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Evaluate.Features;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// <code>
/// held-out text ──> contexts ──> clean forward ──> activations ──SAE──> x̂ ──splice──> loss, KL ──> metrics.json
///                                                      └── what each latent fires on ──> features/
/// </code>
/// One clean forward serves every SAE; each SAE takes one more, from its hook on. <see cref="Baselines"/> are zero and mean
/// ablation.
/// </summary>
public sealed class EvaluateStage
{
    public const string MetricsName = "metrics.json";

    /// <summary>SAEs whose reconstructions are spliced in and compared with the clean forward together.</summary>
    private const int SplicesAtATime = 4;

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
    private readonly Dictionary<HookPoint, (double Zero, double Mean)> ablated = [];
    private readonly Dictionary<Subject, IReadOnlyList<ManifestOutput>> dashboards = [];
    private double cleanLoss;
    private long scored;

    /// <summary>Tokens whose mean is taken, and of those evaluated, so far.</summary>
    private long meanTokens;
    private long tokens;
    private long? lastCheckpoint;

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
        baselines = subjects
            .Select(s => s.Target)
            .Distinct()
            .ToDictionary(hook => hook, hook => new Baselines(hook, width));
    }

    /// <summary>The stage's folder for one SAE, compared with what it would be made from now.</summary>
    public static StageFolder Folder(RunInputs run, HookPoint hook, SaeConfig sae, string trainFingerprint)
    {
        var config = ConfigurationJson.ToJson(run.Config.Evaluate);
        config["features"] = ConfigurationJson.ToJson(run.Config.Report)["features"]!.DeepClone();
        config.Remove("checkpointEvery");
        if (run.Config.Evaluate.N2g == 0)
        {
            config.Remove("n2g"); // as it was before there was the setting
        }
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
        if (config.N2g > 0)
        {
            FeatureDashboards.PadOf(run.Tokenizer, run.Config.Model); // refused now rather than after the evaluation
        }
        subjects.ForEach(subject => subject.Folder.Begin(run.Environment, run.AllowDrift));
        using var none = no_grad();
        RestoreCheckpoint();
        using var model = run.Model.Load(run.Device);
        TakeMeans(model);
        ForEachBatch("evaluate", tokens, batch => Evaluate(model, batch));
        DescribeLatents(model);
        var contexts = Batches().SelectMany(batch => batch.Select(context => context.Tokens)).ToList();
        foreach (var (hook, baseline) in baselines)
        {
            ablated[hook] = baseline.CrossEntropies(model, contexts);
        }
        // One pass served them all: each bears its share of the time.
        var share = clock.Elapsed / subjects.Count;
        subjects.ForEach(subject => Seal(subject, share));
        subjects.ForEach(subject => subject.Dispose());
    }

    /// <summary>A pass of its own over the text, for baselines that cannot do without.</summary>
    private void TakeMeans(Transformer model)
    {
        var before = baselines.Where(entry => !entry.Value.IsWholeStream).ToList();
        if (before.Count == 0)
        {
            return;
        }
        ForEachBatch(
            "evaluate (means)",
            meanTokens,
            batch =>
            {
                var hooks = new ForwardHooks();
                before.ForEach(entry => hooks.Read(entry.Key, entry.Value.AddToMean));
                model.RunHooks(ContextTensor.Of(batch, run.Device), hooks);
                meanTokens += Tokens(batch);
            }
        );
    }

    private void Evaluate(Transformer model, PackedContext[] batch)
    {
        var clean = CleanBatch.Run(
            model,
            ContextTensor.Of(batch, run.Device),
            [.. baselines.Keys.Union(subjects.Select(s => s.Hook))]
        );
        double? loss = null;
        foreach (var group in subjects.Chunk(SplicesAtATime))
        {
            using var scope = NewDisposeScope();
            loss = clean.Score(model, [.. group.Select(subject => subject.Add(clean, batch))]);
        }
        cleanLoss += loss!.Value;
        scored += clean.Scored;
        foreach (var (hook, baseline) in baselines)
        {
            if (baseline.IsWholeStream)
            {
                baseline.AddToMean(clean.AtHook[hook]);
            }
            else
            {
                clean.Score(model, [.. baseline.SplicesOf(clean)]);
            }
        }
        tokens += Tokens(batch);
    }

    /// <summary>SAE by SAE; what was made before an interruption is kept, block by block.</summary>
    private void DescribeLatents(Transformer model)
    {
        SaveCheckpoint();
        foreach (var subject in subjects)
        {
            string task = $"evaluate (latents) {subject.Hook} {Path.GetFileName(subject.Folder.Path)}";
            using var described = new FeatureDashboards(
                model,
                subject.Hook,
                subject.Sae,
                run.Tokenizer,
                new DashboardSettings(run.Config.Report.Features, config.N2g, run.Config.Seed),
                subject.Examples,
                subject.Sample
            );
            dashboards[subject] = described.Publish(
                subject.Folder,
                (done, total) =>
                {
                    StopIfCancelled(task);
                    progress.Update(task, done, total, "latents");
                }
            );
        }
    }

    private void StopIfCancelled(string task)
    {
        if (cancel.IsCancellationRequested)
        {
            SaveCheckpoint();
            throw new RunInterruptedException($"{task}: interrupted. Run the command again to go on from there.");
        }
    }

    /// <summary>What is evaluated.</summary>
    private IEnumerable<PackedContext[]> Batches() => run.Batches(heldOut: true, config.Tokens.Value, config.Batch);

    private static long Tokens(PackedContext[] batch) => batch.Sum(context => (long)context.Tokens.Length);

    /// <summary>Calls for each batch of held-out text after the first <paramref name="done"/> tokens; checkpoints between.</summary>
    private void ForEachBatch(string task, long done, Action<PackedContext[]> action)
    {
        long seen = 0;
        long sinceCheckpoint = 0;
        foreach (var batch in Batches())
        {
            seen += Tokens(batch);
            if (seen <= done)
            {
                continue;
            }
            StopIfCancelled(task);
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

    /// <summary>Writes where it stands, unless that is where the last checkpoint stands.</summary>
    private void SaveCheckpoint()
    {
        if (lastCheckpoint == meanTokens + tokens)
        {
            return;
        }
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
        lastCheckpoint = meanTokens + tokens;
        Checkpoints.Save(lastCheckpoint.Value, stream => SafetensorsWriter.Write(stream, state), []);
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
        lastCheckpoint = meanTokens + tokens;
        foreach (var subject in subjects)
        {
            subject.Restore(name => file.Load($"{subject.Folder.Fingerprint}/{name}"));
        }
    }

    private void Seal(Subject subject, TimeSpan wall)
    {
        var (zero, mean) = ablated[subject.Target];
        double clean = cleanLoss / scored;
        double spliced = subject.Spliced.CrossEntropy;
        var metrics = subject.All.ToJson(run.Model.Config.Width);
        metrics["scored_tokens"] = scored;
        metrics["ce_clean"] = clean;
        metrics["ce_spliced"] = spliced;
        metrics["ce_zero"] = zero;
        metrics["ce_mean"] = mean;
        metrics["loss_recovered"] = SpliceScore.Recovered(clean, spliced, zero);
        metrics["loss_recovered_mean"] = SpliceScore.Recovered(clean, spliced, mean);
        metrics["ce_delta"] = spliced - clean;
        metrics["kl"] = subject.Spliced.Divergence;
        metrics["dead_fraction"] = subject.Examples.Dead / (double)subject.Sae.Features;
        metrics["density_histogram"] = subject.Examples.DensityHistogram();
        metrics["without_bos"] = subject.WithoutBos.ToJson(run.Model.Config.Width);
        metrics["definitions"] = MetricDefinitions.ToJson();
        List<ManifestOutput> outputs =
        [
            ManifestOutput.Of(MetricsName, Publish(subject, MetricsName, metrics)),
            .. dashboards[subject],
        ];
        subject.Folder.Complete(
            outputs,
            new JsonObject { ["loss_recovered"] = metrics["loss_recovered"]!.DeepClone() },
            run.Provenance(wall)
        );
    }

    private static FileDigest Publish(Subject subject, string name, JsonObject json) =>
        AtomicFile.WriteText(Path.Combine(subject.Folder.Path, name), json.ToJsonString(Indented) + "\n");

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

        public SpliceScore Spliced { get; } = new();

        public FeatureExamples Examples { get; } = new(config.FeaturesFor(run.Model.Config.Width));

        public LatentSample Sample { get; } = new(RandomStreams.Derive(run.Config.Seed, "evaluate", "contexts"));

        /// <summary>Takes a batch in, but for its splice.</summary>
        /// <returns>That splice, of the caller's dispose scope.</returns>
        public Splice Add(CleanBatch clean, PackedContext[] batch)
        {
            using var scope = NewDisposeScope();
            var xBTD = clean.AtHook[hook];
            var latents = Sae.Encode(xBTD.reshape(-1, Sae.Width));
            var reconstructionRD = Sae.Decode(latents);
            float[] values = CpuKernels.ToArray<float>(latents.ValuesBK);
            Measure(
                batch,
                CpuKernels.ToArray<float>(clean.AtHook[Target]),
                CpuKernels.ToArray<float>(reconstructionRD),
                values
            );
            long[] indices = CpuKernels.ToArray<long>(latents.IndicesBK);
            Examples.Add(batch, indices, values);
            Sample.Add(batch, indices, values);
            return new Splice(Spliced, Target, reconstructionRD.view(xBTD.shape).MoveToOuterDisposeScope());
        }

        /// <summary>Everything summed and kept so far, by name.</summary>
        public IEnumerable<(string Name, Tensor Value)> State() =>
            [
                ("all", tensor(All.State)),
                ("without_bos", tensor(WithoutBos.State)),
                ("spliced", tensor(Spliced.State)),
                .. Examples.State().Select(part => ($"examples/{part.Name}", part.Value)),
                .. Sample.State().Select(part => ($"sample/{part.Name}", part.Value)),
            ];

        public void Restore(Func<string, Tensor> load)
        {
            All.State = load("all").data<double>().ToArray();
            WithoutBos.State = load("without_bos").data<double>().ToArray();
            Spliced.State = load("spliced").data<double>().ToArray();
            Examples.Restore(name => load($"examples/{name}"));
            Sample.Restore(name => load($"sample/{name}"));
        }

        public void Dispose() => Sae.Dispose();

        private static Autoencoder LoadTrained(string folder)
        {
            Manifest.RequireWhole(folder);
            return new SaeLensFormat().Load(folder).Sae;
        }

        /// <summary>Row-major [R, D], [R, D] and [R, K].</summary>
        private void Measure(PackedContext[] batch, float[] targetsRD, float[] reconstructionsRD, float[] valuesRK)
        {
            int d = Sae.Width;
            int[] tokens = [.. batch.SelectMany(context => context.Tokens)];
            int kept = valuesRK.Length / tokens.Length;
            for (int row = 0; row < tokens.Length; row++)
            {
                var target = targetsRD.AsSpan(row * d, d);
                var reconstruction = reconstructionsRD.AsSpan(row * d, d);
                var values = valuesRK.AsSpan(row * kept, kept);
                All.Add(target, reconstruction, values);
                if (tokens[row] != run.Tokenizer.BosId)
                {
                    WithoutBos.Add(target, reconstruction, values);
                }
            }
        }
    }
}
