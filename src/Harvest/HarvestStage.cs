using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Harvest;

/// <summary>
/// <code>
/// text ──> documents not held out ──> packed contexts ──> transformer ──hooks──> one Arrow shard a hook
///                                                                                 (written while the next batch runs)
/// </code>
/// One forward feeds all hooks. Shards of all hooks end at the same tokens, and a shard's content depends on its place
/// alone: a run that was killed, or that lost a shard, makes just the missing ones.
/// </summary>
public sealed class HarvestStage
{
    private readonly RunInputs run;
    private readonly HarvestConfig config;
    private readonly StageFolder folder;
    private readonly IProgressSink progress;
    private readonly CancellationToken cancel;
    private readonly int batchesPerShard;

    private HarvestStage(RunInputs run, StageFolder folder, IProgressSink progress, CancellationToken cancel)
    {
        (this.run, config, this.folder) = (run, run.Config.Harvest, folder);
        (this.progress, this.cancel) = (progress, cancel);
        long tokensPerBatch = (long)config.Batch * config.Context;
        batchesPerShard = (int)Math.Max(1, (config.ShardTokens.Value + tokensPerBatch - 1) / tokensPerBatch);
    }

    /// <summary>The stage's folder, compared with what it would be made from now.</summary>
    public static StageFolder Folder(RunInputs run)
    {
        var config = ConfigurationJson.ToJson(run.Config.Harvest);
        config["hooks"] = new JsonArray([.. run.Hooks.Select(hook => (JsonNode)hook.ToString())]);
        config["seed"] = run.Config.Seed;
        return new StageFolder(
            run.HarvestFolder,
            "harvest",
            config,
            [run.ModelInput, run.TokenizerInput, run.TextInput]
        );
    }

    /// <summary>Makes the shards that are missing and seals the folder.</summary>
    /// <exception cref="RunInterruptedException">Cancelled; whole shards are kept.</exception>
    public static void Run(RunInputs run, StageFolder folder, IProgressSink progress, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(folder);
        folder.Begin(run.Environment, run.AllowDrift);
        new HarvestStage(run, folder, progress, cancel).RunAndSeal();
    }

    /// <summary>
    /// A worker's part of a harvest that was begun: the missing shards among those whose number leaves
    /// <paramref name="share"/>'s index when divided by its count. The folder stays unsealed.
    /// </summary>
    /// <exception cref="RunInterruptedException">Cancelled; whole shards are kept.</exception>
    public static void RunShare(
        RunInputs run,
        StageFolder folder,
        WorkShare share,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        ArgumentNullException.ThrowIfNull(share);
        var stage = new HarvestStage(run, folder, progress, cancel);
        using var model = new LoadedOnDemand(run);
        foreach (var shard in stage.Shards().Where(shard => share.Includes(shard.Number)))
        {
            stage.MakeUnlessWhole(shard, model);
        }
    }

    /// <summary>Numbers of the shards that are not whole, in order. Reads what lies in the folder; makes nothing.</summary>
    public static IReadOnlyList<int> MissingShards(RunInputs run, StageFolder folder)
    {
        var stage = new HarvestStage(run, folder, new NoProgress(), CancellationToken.None);
        return [.. stage.Shards().Where(shard => stage.WholeDigests(shard) is null).Select(shard => shard.Number)];
    }

    private void RunAndSeal()
    {
        var clock = Stopwatch.StartNew();
        using var model = new LoadedOnDemand(run);
        var outputs = new List<ManifestOutput>();
        var (tokens, shards, documents, lastDocument) = (0L, 0, 0L, -1);
        foreach (var shard in Shards())
        {
            var digests = MakeUnlessWhole(shard, model);
            outputs.AddRange(run.Hooks.Zip(digests, (hook, digest) => Describe(hook, shard, digest)));
            foreach (int document in shard.Documents)
            {
                documents += document == lastDocument ? 0 : 1;
                lastDocument = document;
            }
            tokens += shard.Tokens;
            shards++;
            progress.Update("harvest", Math.Min(tokens, config.Tokens.Value), config.Tokens.Value, "tokens");
        }
        RequireTokens(tokens);
        progress.Update("harvest", tokens, tokens, "tokens");
        var results = new JsonObject
        {
            ["tokens"] = tokens,
            ["documents"] = documents,
            ["shards"] = shards,
        };
        folder.Complete(outputs, results, run.Provenance(clock.Elapsed));
    }

    /// <summary>The harvest's shards in order, each with its contexts.</summary>
    private IEnumerable<ShardPlan> Shards()
    {
        long firstToken = 0;
        int number = 0;
        foreach (var batches in run.Batches(heldOut: false, config.Tokens.Value, config.Batch).Chunk(batchesPerShard))
        {
            var shard = new ShardPlan(number++, firstToken, batches);
            firstToken += shard.Tokens;
            yield return shard;
        }
    }

    private List<FileDigest> MakeUnlessWhole(ShardPlan shard, LoadedOnDemand model) =>
        WholeDigests(shard) ?? WriteShard(model.Model, shard);

    /// <summary>The digests of a shard that is there at every hook, with the bytes it was written with; null otherwise.</summary>
    private List<FileDigest>? WholeDigests(ShardPlan shard)
    {
        var digests = run
            .Hooks.Select(hook => folder.VerifiedPart(ShardName(hook, shard)))
            .OfType<FileDigest>()
            .ToList();
        return digests.Count == run.Hooks.Count ? digests : null;
    }

    private static string ShardName(HookPoint hook, ShardPlan shard) =>
        string.Create(CultureInfo.InvariantCulture, $"{hook}/shard-{shard.Number:D5}.arrow");

    private List<FileDigest> WriteShard(Transformer model, ShardPlan shard)
    {
        using var none = no_grad();
        var names = run.Hooks.Select(hook => ShardName(hook, shard)).ToList();
        var writers = run.Hooks.Zip(names, (hook, name) => NewWriter(hook, name, shard)).ToList();
        var writing = Task.CompletedTask;
        try
        {
            foreach (var batch in shard.Batches)
            {
                if (cancel.IsCancellationRequested)
                {
                    throw new RunInterruptedException(
                        $"harvest: interrupted before shard {shard.Number}. Run the command again to go on from there."
                    );
                }
                var activations = Activations(model, batch);
                writing.GetAwaiter().GetResult();
                writing = Task.Run(() => Append(writers, batch, activations), CancellationToken.None);
            }
            writing.GetAwaiter().GetResult();
            var digests = writers.Select(writer => writer.Commit()).ToList();
            names.Zip(digests).ToList().ForEach(part => folder.RecordPart(part.First, part.Second));
            return digests;
        }
        finally
        {
            writing.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            writers.ForEach(writer => writer.Dispose());
        }
    }

    private ActivationShardWriter NewWriter(HookPoint hook, string name, ShardPlan shard) =>
        new(
            Path.Combine(run.HarvestFolder, name),
            config.Dtype,
            new ShardMetadata(
                run.Config.Model,
                run.ModelInput.Fingerprint,
                hook.ToString(),
                run.Tokenizer.Hash,
                config.Context,
                run.Config.Seed,
                shard.FirstToken,
                run.Model.Config.Width
            )
        );

    /// <summary>One forward up to the last hook; each hook's activations [B x T, D], row-major, in the order of the hooks.</summary>
    private List<float[]> Activations(Transformer model, PackedContext[] batch)
    {
        using var scope = NewDisposeScope();
        var read = new Dictionary<HookPoint, float[]>();
        var hooks = new ForwardHooks();
        foreach (var hook in run.Hooks)
        {
            hooks.Read(hook, x => read[hook] = CpuKernels.ToArray<float>(x));
        }
        model.RunHooks(ContextTensor.Of(batch, run.Device), hooks);
        return [.. run.Hooks.Select(hook => read[hook])];
    }

    private static void Append(List<ActivationShardWriter> writers, PackedContext[] batch, List<float[]> activations)
    {
        int[] tokens = [.. batch.SelectMany(context => context.Tokens)];
        int[] documents = [.. batch.SelectMany(context => context.Documents)];
        int[] positions = [.. batch.SelectMany(context => context.Positions)];
        for (int i = 0; i < writers.Count; i++)
        {
            writers[i].Append(tokens, documents, positions, activations[i]);
        }
    }

    private ManifestOutput Describe(HookPoint hook, ShardPlan shard, FileDigest digest) =>
        new(
            ShardName(hook, shard),
            digest.Bytes,
            digest.Sha256,
            shard.Tokens,
            Spelling.Of(config.Dtype),
            new Dictionary<string, long> { ["row"] = shard.Tokens, ["d_model"] = run.Model.Config.Width }
        );

    private void RequireTokens(long tokens)
    {
        if (tokens == 0)
        {
            throw new ConfigurationException(
                new Fault(
                    $"text: {run.Config.Text}",
                    "no document to harvest",
                    "at least two tokens of text that is not held out",
                    "Give more text, or lower harvest.heldOut"
                ).ToString()
            );
        }
    }

    /// <summary>What one shard holds.</summary>
    private sealed record ShardPlan(int Number, long FirstToken, PackedContext[][] Batches)
    {
        public long Tokens => Batches.Sum(batch => batch.Sum(context => (long)context.Tokens.Length));

        public IEnumerable<int> Documents =>
            Batches.SelectMany(batch => batch.SelectMany(context => context.Documents));
    }

    /// <summary>The model, loaded when the first shard is found missing.</summary>
    private sealed class LoadedOnDemand(RunInputs run) : IDisposable
    {
        private Transformer? model;

        public Transformer Model => model ??= run.Model.Load(run.Device);

        public void Dispose() => model?.Dispose();
    }
}
