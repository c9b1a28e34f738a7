using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
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
    private readonly IProgressSink progress;
    private readonly int batchesPerShard;

    private HarvestStage(RunInputs run, IProgressSink progress)
    {
        (this.run, config, this.progress) = (run, run.Config.Harvest, progress);
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

    /// <exception cref="RunInterruptedException">Cancelled; whole shards are kept.</exception>
    public static void Run(RunInputs run, StageFolder folder, IProgressSink progress, CancellationToken cancel) =>
        new HarvestStage(run, progress).Run(folder, cancel);

    private void Run(StageFolder folder, CancellationToken cancel)
    {
        var clock = Stopwatch.StartNew();
        folder.Begin();
        using var none = no_grad();
        using var model = run.Model.Load(run.Device);
        long documents = 0;
        int lastDocument = -1;
        var outputs = new List<ManifestOutput>();
        long tokens = 0;
        int shard = 0;
        foreach (var batches in run.Batches(heldOut: false, config.Tokens.Value, config.Batch).Chunk(batchesPerShard))
        {
            long firstToken = tokens;
            tokens += batches.Sum(batch => batch.Sum(context => (long)context.Tokens.Length));
            foreach (int document in batches.SelectMany(batch => batch.SelectMany(context => context.Documents)))
            {
                documents += document == lastDocument ? 0 : 1;
                lastDocument = document;
            }
            bool whole = run.Hooks.All(hook => File.Exists(ShardPath(hook, shard)));
            var digests = whole
                ? run.Hooks.Select(hook => AtomicFile.Digest(ShardPath(hook, shard))).ToList()
                : WriteShard(model, batches, shard, firstToken, cancel);
            outputs.AddRange(
                run.Hooks.Zip(digests, (hook, digest) => Describe(hook, shard, tokens - firstToken, digest))
            );
            progress.Update("harvest", Math.Min(tokens, config.Tokens.Value), config.Tokens.Value, "tokens");
            shard++;
        }
        RequireTokens(tokens);
        progress.Update("harvest", tokens, tokens, "tokens");
        var results = new JsonObject
        {
            ["tokens"] = tokens,
            ["documents"] = documents,
            ["shards"] = shard,
        };
        folder.Complete(outputs, results, run.Provenance(clock.Elapsed));
    }

    private string ShardPath(HookPoint hook, int shard) =>
        Path.Combine(run.HookFolder(hook), string.Create(CultureInfo.InvariantCulture, $"shard-{shard:D5}.arrow"));

    private List<FileDigest> WriteShard(
        Transformer model,
        PackedContext[][] batches,
        int shard,
        long firstToken,
        CancellationToken cancel
    )
    {
        var writers = run.Hooks.Select(hook => NewWriter(hook, shard, firstToken)).ToList();
        var writing = Task.CompletedTask;
        try
        {
            foreach (var batch in batches)
            {
                if (cancel.IsCancellationRequested)
                {
                    throw new RunInterruptedException(
                        $"harvest: interrupted before shard {shard}. Run the command again to go on from there."
                    );
                }
                var activations = Activations(model, batch);
                writing.GetAwaiter().GetResult();
                writing = Task.Run(() => Append(writers, batch, activations), CancellationToken.None);
            }
            writing.GetAwaiter().GetResult();
            return [.. writers.Select(writer => writer.Commit())];
        }
        finally
        {
            writing.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            writers.ForEach(writer => writer.Dispose());
        }
    }

    private ActivationShardWriter NewWriter(HookPoint hook, int shard, long firstToken) =>
        new(
            ShardPath(hook, shard),
            config.Dtype,
            new ShardMetadata(
                run.Config.Model,
                run.ModelInput.Fingerprint,
                hook.ToString(),
                run.Tokenizer.Hash,
                config.Context,
                run.Config.Seed,
                firstToken,
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
            hooks.Read(hook, x => read[hook] = x.cpu().contiguous().data<float>().ToArray());
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

    private ManifestOutput Describe(HookPoint hook, int shard, long rows, FileDigest digest) =>
        new(
            Path.GetRelativePath(run.HarvestFolder, ShardPath(hook, shard)).Replace('\\', '/'),
            digest.Bytes,
            digest.Sha256,
            rows,
            Spelling.Of(config.Dtype),
            new Dictionary<string, long> { ["row"] = rows, ["d_model"] = run.Model.Config.Width }
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
}
