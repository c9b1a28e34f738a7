using System.Diagnostics;
using System.Text.Json.Nodes;
using Pipeline.Evaluate.Features;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
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
/// One clean forward serves every SAE; each SAE takes one more, from its hook on, and the SAEs of one name take one together
/// (<see cref="AllHooks"/>). <see cref="Ablations"/> are zero and mean ablation, <see cref="HookBaselines"/> what an SAE must
/// beat. Every sum is kept in groups of tokens (<see cref="GroupedSums"/>).
/// </summary>
public sealed class EvaluateStage : IDisposable
{
    public const string MetricsName = "metrics.json";

    /// <summary>SAEs whose reconstructions are spliced in and compared with the clean forward together.</summary>
    private const int SplicesAtATime = 4;

    /// <summary>Latents whose direct effect on the logits is checked: a mean over so many says enough.</summary>
    private const int CheckedLatents = 32;

    private readonly RunInputs run;
    private readonly EvaluateConfig config;
    private readonly IProgressSink progress;
    private readonly CancellationToken cancel;
    private readonly EvaluationPass pass;
    private readonly List<EvaluatedSae> subjects;

    /// <summary>Of every hook at which a reconstruction is spliced in.</summary>
    private readonly Dictionary<HookPoint, Ablations> ablations;
    private readonly Dictionary<HookPoint, InputSums> inputs;
    private readonly Dictionary<HookPoint, HookBaselines> baselines = [];

    /// <summary>SAEs of other hooks that are spliced in together with subjects of their names.</summary>
    private readonly List<Autoencoder> companions = [];
    private readonly List<AllHooks> together = [];
    private readonly TokenPlaces places;
    private readonly SpliceScore clean = new();
    private readonly Dictionary<EvaluatedSae, IReadOnlyList<ManifestOutput>> dashboards = [];

    /// <summary>Tokens whose mean is taken, and of those evaluated, so far.</summary>
    private long meanTokens;
    private long tokens;
    private long? lastCheckpoint;

    private EvaluateStage(
        RunInputs run,
        EvaluationPass pass,
        IReadOnlyList<(HookPoint Hook, SaeConfig Sae, StageFolder Folder)> pending,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        (this.run, this.pass, this.progress, this.cancel) = (run, pass, progress, cancel);
        config = run.Config.Evaluate;
        subjects =
        [
            .. pass
                .Folders.Select(folder => pending.First(p => p.Folder == folder))
                .Select(p => new EvaluatedSae(run, p.Hook, p.Sae, p.Folder)),
        ];
        int width = run.Model.Config.Width;
        var targets = subjects.Select(s => s.Target).Distinct().ToList();
        ablations = targets.ToDictionary(hook => hook, hook => new Ablations(hook, width));
        inputs = targets.ToDictionary(hook => hook, _ => new InputSums(width));
        places = new TokenPlaces(run.Tokenizer);
    }

    /// <summary>The stage's folder for one SAE, compared with what it would be made from now.</summary>
    /// <param name="run">The pipeline's inputs.</param>
    /// <param name="hook">The SAE's hook.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="trainFingerprint">Of this SAE, and of those that are spliced in together with it.</param>
    public static StageFolder Folder(
        RunInputs run,
        HookPoint hook,
        SaeConfig sae,
        Func<HookPoint, SaeConfig, string> trainFingerprint
    )
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
            [
                run.ModelInput,
                run.TokenizerInput,
                run.TextInput,
                new ManifestInput("train", "train", trainFingerprint(hook, sae)),
                .. SplicedTogether(run, sae)
                    .Where(other => other.Hook != hook)
                    .Select(other => new ManifestInput(
                        $"train/{other.Hook}",
                        "train",
                        trainFingerprint(other.Hook, other.Sae)
                    )),
            ]
        );
    }

    /// <exception cref="RunInterruptedException">Cancelled; a checkpoint was written first.</exception>
    public static void Run(
        RunInputs run,
        IReadOnlyList<(HookPoint Hook, SaeConfig Sae, StageFolder Folder)> pending,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        foreach (var pass in EvaluationPass.Of([.. pending.Select(p => p.Folder)]))
        {
            if (pass.Note is { } note)
            {
                progress.Say(note);
            }
            using var stage = new EvaluateStage(run, pass, pending, progress, cancel);
            stage.Run();
        }
    }

    public void Dispose()
    {
        subjects.ForEach(subject => subject.Dispose());
        companions.ForEach(sae => sae.Dispose());
        baselines.Values.ToList().ForEach(baseline => baseline.Dispose());
    }

    /// <summary>In the folder that is sealed last: while any SAE is unfinished, it is there.</summary>
    private CheckpointFolder Checkpoints => subjects[^1].Folder.Checkpoints;

    /// <summary>One SAE's settings at all hooks it is trained at; none where that is a single one.</summary>
    private static List<(HookPoint Hook, SaeConfig Sae)> SplicedTogether(RunInputs run, SaeConfig sae)
    {
        var saes = run.Saes.Where(entry => entry.Sae == sae).ToList();
        return saes.Count > 1 ? saes : [];
    }

    private void Run()
    {
        var clock = Stopwatch.StartNew();
        if (config.N2g > 0)
        {
            FeatureDashboards.PadOf(run.Tokenizer, run.Config.Model); // refused now rather than after the evaluation
        }
        subjects.ForEach(subject => subject.Folder.Begin(run.Environment, run.AllowDrift));
        using var none = no_grad();
        JoinHooks();
        FitBaselines();
        RestoreCheckpoint();
        using var model = run.Model.Load(run.Device);
        TakeMeans(model);
        ForEachBatch("evaluate", tokens, batch => Evaluate(model, batch));
        SaveCheckpoint();
        var contexts = Batches().SelectMany(batch => batch).ToList();
        var effects = subjects.ConvertAll(subject => CheckDirectEffect(model, subject, contexts));
        DescribeLatents(model, effects);
        ScoreStreams(model, contexts);
        var yardsticks = Yardsticks();
        // One pass served them all: each bears its share of the time.
        var share = clock.Elapsed / subjects.Count;
        for (int i = 0; i < subjects.Count; i++)
        {
            Seal(subjects[i], yardsticks[subjects[i].Target], effects[i], share);
        }
    }

    /// <summary>Finds what is spliced in together with each subject, and loads what is no subject itself.</summary>
    private void JoinHooks()
    {
        foreach (var group in subjects.GroupBy(subject => subject.Config))
        {
            var saes = SplicedTogether(run, group.First().Config);
            if (saes.Count == 0)
            {
                continue;
            }
            var joined = new AllHooks(saes.Select(entry => Hooked(group, entry.Hook, entry.Sae)));
            together.Add(joined);
            foreach (var subject in group)
            {
                subject.Together = joined;
            }
        }

        HookedSae Hooked(IEnumerable<EvaluatedSae> group, HookPoint hook, SaeConfig sae)
        {
            var own = group.FirstOrDefault(subject => subject.Hook == hook)?.Sae;
            if (own is null)
            {
                own = EvaluatedSae.LoadTrained(run.SaeFolder(hook, sae)).To(run.Device);
                companions.Add(own);
            }
            return new HookedSae(hook, RunInputs.TargetOf(hook, sae), own);
        }
    }

    /// <summary>
    /// Everything about baselines is decided by training activations, sizes included, so that they are measured in the same
    /// pass as the SAEs; fitting is done anew after an interruption, and gives the same.
    /// </summary>
    private void FitBaselines()
    {
        const string Task = "evaluate (baselines)";
        if (!config.Baselines)
        {
            return;
        }
        // Each is opened once: opening reads all of it and compares its hash.
        var opened = new Dictionary<HookPoint, TrainingActivations>();
        try
        {
            foreach (var subject in subjects)
            {
                if (!baselines.TryGetValue(subject.Target, out var atTarget))
                {
                    progress.Update(Task, baselines.Count, inputs.Count, "hooks");
                    var components = Opened(subject.Target).Components(Stop);
                    atTarget = new HookBaselines(subject.Target, components, run.Config.Seed);
                    baselines.Add(subject.Target, atTarget);
                }
                int l0 = Opened(subject.Hook).RoundedL0(subject.Sae, run.Device, Stop);
                subject.Pca = atTarget.Pca(l0);
                subject.Random = atTarget.Random(subject.Sae.Features, l0, run.Device);
            }
        }
        finally
        {
            opened.Values.ToList().ForEach(activations => activations.Dispose());
        }

        TrainingActivations Opened(HookPoint hook)
        {
            if (!opened.TryGetValue(hook, out var activations))
            {
                activations = TrainingActivations.Open(run.HarvestFolder, hook.ToString());
                opened.Add(hook, activations);
            }
            return activations;
        }

        // Nothing is saved: what a checkpoint holds is not restored yet.
        void Stop()
        {
            if (cancel.IsCancellationRequested)
            {
                throw Interrupted(Task);
            }
        }
    }

    /// <summary>A pass of its own over the text, for ablations that cannot do without.</summary>
    private void TakeMeans(Transformer model)
    {
        var before = ablations.Where(entry => !entry.Value.IsWholeStream).ToList();
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
        var untouched = CleanBatch.Run(
            model,
            ContextTensor.Of(batch, run.Device),
            places.Of(batch),
            [.. inputs.Keys.Union(subjects.Select(s => s.Hook)).Union(together.Select(joined => joined.FirstHook))]
        );
        foreach (var (hook, sums) in inputs)
        {
            sums.Add(untouched.Places, untouched.ValuesAt(hook));
        }
        List<Func<Splice>> splices =
        [
            .. subjects.Select(subject => (Func<Splice>)(() => subject.Add(untouched, batch))),
            .. together.Select(joined => (Func<Splice>)(() => joined.SpliceOf(untouched))),
        ];
        double[]? cleanLossR = null;
        foreach (var group in splices.Chunk(SplicesAtATime))
        {
            using var scope = NewDisposeScope();
            cleanLossR = untouched.Score(model, [.. group.Select(make => make())]);
        }
        clean.Add(untouched.Places, cleanLossR!);
        Compare(model, untouched);
        tokens += Tokens(batch);
    }

    /// <summary>What SAEs are compared with: ablations and baselines.</summary>
    private void Compare(Transformer model, CleanBatch untouched)
    {
        foreach (var (hook, ablation) in ablations)
        {
            using var scope = NewDisposeScope();
            if (ablation.IsWholeStream)
            {
                ablation.AddToMean(untouched.AtHook[hook]);
                continue;
            }
            foreach (var splice in ablation.SplicesOf(untouched))
            {
                untouched.ScoreLoss(model, splice);
            }
        }
        foreach (var joined in together)
        {
            using var scope = NewDisposeScope();
            if (joined.ZeroOf(untouched) is { } splice)
            {
                untouched.ScoreLoss(model, splice);
            }
        }
        foreach (var baseline in baselines.Values.SelectMany(atHook => atHook.All))
        {
            using var scope = NewDisposeScope();
            untouched.ScoreLoss(model, baseline.Add(untouched));
        }
    }

    /// <summary>Ablations for which one context's forward serves all.</summary>
    private void ScoreStreams(Transformer model, List<PackedContext> contexts)
    {
        var all = new TokenPlaces(run.Tokenizer).Of(contexts);
        foreach (var ablation in ablations.Values.Where(ablation => ablation.IsWholeStream))
        {
            ablation.ScoreStream(model, contexts, all);
        }
        together.ForEach(joined => joined.ScoreZeros(model, contexts, all));
    }

    private IReadOnlyList<DirectEffect> CheckDirectEffect(
        Transformer model,
        EvaluatedSae subject,
        List<PackedContext> contexts
    )
    {
        string task = $"evaluate (direct effect) {subject.Hook} {subject.Name}";
        int length = contexts[0].Tokens.Length;
        var peaks = subject
            .Examples.Spread(CheckedLatents)
            .Select(latent => (Latent: latent, At: subject.Examples.Peak(latent)))
            .Select(peak =>
                (peak.Latent, contexts[(int)(peak.At!.Value / length)].Tokens[..((int)(peak.At.Value % length) + 1)])
            );
        var check = new DirectEffectCheck(
            model,
            new HookedSae(subject.Hook, subject.Target, subject.Sae),
            run.Tokenizer.VocabularySize
        );
        return check.Of(peaks, config.Batch * length, () => StopIfCancelled(task));
    }

    private Dictionary<HookPoint, Yardstick> Yardsticks()
    {
        var bootstrap = new Bootstrap(places.Documents, new Xoshiro256(run.Config.Seed, "evaluate", "bootstrap"));
        return inputs.ToDictionary(
            entry => entry.Key,
            entry => new Yardstick(clean, ablations[entry.Key].Zero, entry.Value, bootstrap)
        );
    }

    /// <summary>SAE by SAE; what was made before an interruption is kept, block by block.</summary>
    private void DescribeLatents(Transformer model, List<IReadOnlyList<DirectEffect>> effects)
    {
        foreach (var (subject, ownEffects) in subjects.Zip(effects))
        {
            string task = $"evaluate (latents) {subject.Hook} {Path.GetFileName(subject.Folder.Path)}";
            using var described = new FeatureDashboards(
                model,
                subject.Hook,
                subject.Sae,
                run.Tokenizer,
                new DashboardSettings(run.Config.Report.Features, config.N2g, run.Config.Seed),
                subject.Examples,
                subject.Sample,
                ownEffects
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
            throw Interrupted(task);
        }
    }

    private static RunInterruptedException Interrupted(string task) =>
        new($"{task}: interrupted. Run the command again to go on from there.");

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
        var (lastInSource, documents) = places.State;
        var state = new List<(string, Tensor)>
        {
            ("progress", tensor(new[] { meanTokens, tokens, lastInSource, documents })),
            ("clean", tensor(clean.Sums.State)),
        };
        foreach (var (hook, ablation) in ablations)
        {
            state.Add(($"{hook}/mean", tensor(ablation.MeanState)));
            state.Add(($"{hook}/zero ablation", tensor(ablation.Zero.Sums.State)));
            state.Add(($"{hook}/mean ablation", tensor(ablation.Mean.Sums.State)));
            state.Add(($"{hook}/inputs", tensor(inputs[hook].Sums.State)));
        }
        foreach (var subject in subjects)
        {
            state.AddRange(subject.State().Select(part => ($"{subject.Folder.Fingerprint}/{part.Name}", part.Value)));
        }
        lastCheckpoint = meanTokens + tokens;
        Checkpoints.Save(
            lastCheckpoint.Value,
            stream => SafetensorsWriter.Write(stream, state),
            EvaluationPass.Words(subjects.Select(subject => subject.Folder))
        );
    }

    /// <summary>Takes up the pass's checkpoint; of the SAEs it knows some may be finished by now.</summary>
    private void RestoreCheckpoint()
    {
        if (pass.From is not { } checkpoint)
        {
            return;
        }
        using var scope = NewDisposeScope();
        using var file = SafetensorsFile.Open(checkpoint.Path);
        double[] Numbers(string name) => CpuKernels.ToArray<double>(file.Load(name));
        long[] progressed = CpuKernels.ToArray<long>(file.Load("progress"));
        (meanTokens, tokens) = (progressed[0], progressed[1]);
        places.State = ((int)progressed[2], (int)progressed[3]);
        clean.Sums.State = Numbers("clean");
        foreach (var (hook, ablation) in ablations)
        {
            ablation.MeanState = Numbers($"{hook}/mean");
            ablation.Zero.Sums.State = Numbers($"{hook}/zero ablation");
            ablation.Mean.Sums.State = Numbers($"{hook}/mean ablation");
            inputs[hook].Sums.State = Numbers($"{hook}/inputs");
        }
        lastCheckpoint = meanTokens + tokens;
        foreach (var subject in subjects)
        {
            subject.Restore(name => file.Load($"{subject.Folder.Fingerprint}/{name}"));
        }
    }

    private void Seal(EvaluatedSae subject, Yardstick yardstick, IReadOnlyList<DirectEffect> effects, TimeSpan wall)
    {
        var metrics = FiguresOf(subject, yardstick, withBos: true);
        metrics["intervals"] = yardstick.Intervals(
            subject.Spliced,
            subject.Reconstruction.Sums,
            ReconstructionMetrics.SquaredError,
            ReconstructionMetrics.ActiveLatents
        );
        metrics["without_bos"] = FiguresOf(subject, yardstick, withBos: false);
        metrics["by_position"] = yardstick.ByPosition(
            run.Config.Harvest.Context,
            subject.Spliced,
            subject.Reconstruction
        );
        metrics["by_class"] = yardstick.ByClass(subject.Spliced, subject.Reconstruction);
        metrics["all_hooks"] = DescribeTogether(subject.Together, yardstick);
        metrics["baselines"] = DescribeBaselines(subject, yardstick);
        metrics["direct_effect"] = DirectEffectCheck.ToJson(effects);
        metrics["definitions"] = MetricDefinitions.ToJson();
        List<ManifestOutput> outputs =
        [
            ManifestOutput.Of(MetricsName, Publish(subject, MetricsName, metrics)),
            .. dashboards[subject],
        ];
        var provenance = run.Provenance(wall);
        if (pass.Note is { } note)
        {
            provenance["checkpoint"] = note;
        }
        subject.Folder.Complete(
            outputs,
            new JsonObject { ["loss_recovered"] = metrics["loss_recovered"]?.DeepClone() },
            provenance
        );
    }

    /// <summary>Reconstruction, splice and how often latents fire, over all tokens or all but BOS.</summary>
    private JsonObject FiguresOf(EvaluatedSae subject, Yardstick yardstick, bool withBos)
    {
        TokenClass? except = withBos ? null : TokenClass.Bos;
        double[] cleanSums = clean.Sums.Total(except);
        double[] splicedSums = subject.Spliced.Sums.Total(except);
        double mean = SpliceScore.CrossEntropyOf(ablations[subject.Target].Mean.Sums.Total(except));
        double untouched = SpliceScore.CrossEntropyOf(cleanSums);
        var figures = ReconstructionMetrics.ToJson(
            subject.Reconstruction.Sums.Total(except),
            yardstick.Inputs.Sums.Total(except),
            run.Model.Config.Width
        );
        figures["scored_tokens"] = (long)SpliceScore.TokensOf(cleanSums);
        figures["ce_clean"] = MetricNumber.Of(untouched);
        Add(figures, yardstick.CostOf(subject.Spliced, except));
        figures["ce_mean"] = MetricNumber.Of(mean);
        figures["loss_recovered_mean"] = MetricNumber.Of(
            SpliceScore.Recovered(untouched, SpliceScore.CrossEntropyOf(splicedSums), mean)
        );
        figures["kl"] = MetricNumber.Of(SpliceScore.MeanDivergenceOf(splicedSums));
        figures["dead_fraction"] = MetricNumber.Of(subject.Examples.DeadFraction(withBos));
        figures["density_histogram"] = subject.Examples.DensityHistogram(withBos);
        return figures;
    }

    private static void Add(JsonObject metrics, JsonObject more)
    {
        foreach (var (name, value) in more)
        {
            metrics[name] = value?.DeepClone();
        }
    }

    /// <summary>Null where an SAE of this name is at one hook only.</summary>
    private static JsonObject? DescribeTogether(AllHooks? joined, Yardstick yardstick)
    {
        if (joined is null)
        {
            return null;
        }
        var atAll = yardstick with { Zero = joined.Zero };
        var described = new JsonObject
        {
            ["hooks"] = new JsonArray([.. joined.Hooks.Select(hook => (JsonNode)hook.ToString())]),
        };
        Add(described, atAll.CostOf(joined.Spliced));
        described["kl"] = MetricNumber.Of(joined.Spliced.MeanDivergence);
        described["intervals"] = atAll.Intervals(joined.Spliced);
        return described;
    }

    /// <summary>Null where the pipeline asks for none.</summary>
    private JsonObject? DescribeBaselines(EvaluatedSae subject, Yardstick yardstick) =>
        subject.Pca is { } pca && subject.Random is { } random
            ? new JsonObject
            {
                ["fitted_rows"] = baselines[subject.Target].Components.Rows,
                ["pca"] = yardstick.FiguresOf(pca, "directions"),
                ["random"] = yardstick.FiguresOf(random, "k"),
            }
            : null;

    private static FileDigest Publish(EvaluatedSae subject, string name, JsonObject json) =>
        AtomicFile.WriteText(Path.Combine(subject.Folder.Path, name), json.ToJsonString(RelaxedJson.Indented) + "\n");
}
