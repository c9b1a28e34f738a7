using System.Collections.Concurrent;
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
///                                                                       (written and committed while later batches run)
/// </code>
/// One forward feeds all hooks. Shards of all hooks end at the same tokens, and a shard's content depends on its place
/// alone: a run that was killed, or that lost a shard, makes just the missing ones.
/// </summary>
public sealed class HarvestStage
{
    private const int BatchesAhead = 4;
    private const int BatchesBehind = 4;

    private readonly RunInputs run;
    private readonly HarvestConfig config;
    private readonly StageFolder folder;
    private readonly IProgressSink progress;
    private readonly CancellationToken cancel;
    private readonly int batchesPerShard;
    private readonly ConcurrentStack<EncodedRows> idle = []; // what was written last lies in a cache still

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
        using var disk = new WriteBehind(BatchesBehind);
        foreach (var shard in stage.Shards().Where(shard => share.Includes(shard.Number)))
        {
            stage.MakeUnlessWhole(shard, model, disk);
        }
        disk.Finish();
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
        using var disk = new WriteBehind(BatchesBehind);
        var parts = new List<(ShardPlan Shard, Task<List<FileDigest>> Digests)>();
        var (tokens, shards, documents, lastDocument) = (0L, 0, 0L, -1);
        foreach (var shard in Shards())
        {
            parts.Add((shard, MakeUnlessWhole(shard, model, disk)));
            shard.ReadToEnd();
            documents += shard.Documents - (shard.FirstDocument == lastDocument ? 1 : 0);
            lastDocument = shard.LastDocument;
            tokens += shard.Tokens;
            shards++;
            progress.Update("harvest", Math.Min(tokens, config.Tokens.Value), config.Tokens.Value, "tokens");
        }
        disk.Finish();
        RequireTokens(tokens);
        progress.Update("harvest", tokens, tokens, "tokens");
        var results = new JsonObject
        {
            ["tokens"] = tokens,
            ["documents"] = documents,
            ["shards"] = shards,
        };
        var outputs = parts.SelectMany(part =>
            run.Hooks.Zip(part.Digests.Result, (hook, digest) => Describe(hook, part.Shard, digest))
        );
        folder.Complete([.. outputs], results, run.Provenance(clock.Elapsed));
    }

    /// <summary>The harvest's shards in order, their contexts packed on another thread while earlier ones run.</summary>
    private IEnumerable<ShardPlan> Shards()
    {
        var packed = run.Batches(heldOut: false, config.Tokens.Value, config.Batch);
        using var batches = ReadAhead.Of(packed, BatchesAhead).GetEnumerator();
        long firstToken = 0;
        bool more = batches.MoveNext();
        for (int number = 0; more; number++)
        {
            var shard = new ShardPlan(number, firstToken, batches, batchesPerShard);
            yield return shard;
            shard.ReadToEnd();
            firstToken += shard.Tokens;
            more = shard.More;
        }
    }

    private Task<List<FileDigest>> MakeUnlessWhole(ShardPlan shard, LoadedOnDemand model, WriteBehind disk) =>
        WholeDigests(shard) is { } digests ? Task.FromResult(digests) : WriteShard(model.Model, shard, disk);

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

    /// <summary>Runs a shard's batches; what they give is on disk, and recorded, when the task ends.</summary>
    private Task<List<FileDigest>> WriteShard(Transformer model, ShardPlan shard, WriteBehind disk)
    {
        using var none = no_grad();
        var writers = new List<ActivationShardWriter>();
        try
        {
            foreach (var batch in shard.Batches())
            {
                if (cancel.IsCancellationRequested)
                {
                    throw new RunInterruptedException(
                        $"harvest: interrupted before shard {shard.Number}. Run the command again to go on from there."
                    );
                }
                var rows = Activations(model, shard, batch);
                disk.Start(() => Pieces.Aside(() => Append(writers, shard, batch, rows)));
            }
            return disk.Start(() => Commit(writers, shard)); // waits for the disk, and takes no thread's place meanwhile
        }
        catch
        {
            disk.Settle();
            writers.ForEach(writer => writer.Dispose());
            throw;
        }
    }

    private List<FileDigest> Commit(List<ActivationShardWriter> writers, ShardPlan shard)
    {
        try
        {
            // Each waits for the disk: together, or a further hook would add its wait to a harvest's end.
            var digests = Task.WhenAll(writers.Select(writer => Task.Run(writer.Commit))).GetAwaiter().GetResult();
            foreach (var (hook, digest) in run.Hooks.Zip(digests))
            {
                folder.RecordPart(ShardName(hook, shard), digest);
            }
            return [.. digests];
        }
        finally
        {
            writers.ForEach(writer => writer.Dispose());
        }
    }

    private ActivationShardWriter NewWriter(HookPoint hook, ShardPlan shard) =>
        new(
            Path.Combine(run.HarvestFolder, ShardName(hook, shard)),
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

    /// <summary>
    /// One forward up to the last hook; each hook's activations as they are stored, in the order of the hooks. The stream is
    /// encoded as it passes, by the threads that made it: no tensor waits for the disk.
    /// </summary>
    private List<EncodedRows> Activations(Transformer model, ShardPlan shard, PackedContext[] batch)
    {
        using var scope = NewDisposeScope();
        long firstRow = shard.FirstToken + shard.Tokens - batch.Sum(context => (long)context.Tokens.Length);
        var encoded = new Dictionary<HookPoint, EncodedRows>();
        var hooks = new ForwardHooks();
        foreach (var hook in run.Hooks)
        {
            hooks.ReadInPassing(hook, x => encoded[hook] = Encode(hook, firstRow, x));
        }
        model.RunHooks(ContextTensor.Of(batch, run.Device), hooks);
        return [.. run.Hooks.Select(hook => encoded[hook])];
    }

    private EncodedRows Encode(HookPoint hook, long firstRow, Tensor xBTD)
    {
        using var scope = NewDisposeScope();
        var rows = idle.TryPop(out var used) ? used : new EncodedRows(config.Dtype, run.Model.Config.Width);
        rows.Encode(hook.ToString(), firstRow, CpuKernels.Values(xBTD.cpu().contiguous()), get_num_threads());
        return rows;
    }

    /// <summary>Writes a batch, and gives its memory back. The first opens the shard's files.</summary>
    /// <returns>Rows in each file.</returns>
    private int Append(
        List<ActivationShardWriter> writers,
        ShardPlan shard,
        PackedContext[] batch,
        List<EncodedRows> rows
    )
    {
        if (writers.Count == 0)
        {
            writers.AddRange(run.Hooks.Select(hook => NewWriter(hook, shard)));
        }
        int[] tokens = [.. batch.SelectMany(context => context.Tokens)];
        int[] documents = [.. batch.SelectMany(context => context.Documents)];
        int[] positions = [.. batch.SelectMany(context => context.Positions)];
        for (int i = 0; i < writers.Count; i++)
        {
            writers[i].Append(tokens, documents, positions, rows[i]);
            idle.Push(rows[i]);
        }
        return writers[0].Rows;
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

    /// <summary>One shard of the packed text: its batches come once, and what they hold is counted as they come.</summary>
    private sealed class ShardPlan(int number, long firstToken, IEnumerator<PackedContext[]> source, int most)
    {
        private int read;

        public int Number => number;
        public long FirstToken => firstToken;

        /// <summary>Whether the text goes on after what was read.</summary>
        public bool More { get; private set; } = true;

        /// <summary>Of what was read, like what follows.</summary>
        public long Tokens { get; private set; }

        /// <summary>Documents, one that continues an earlier shard's among them.</summary>
        public int Documents { get; private set; }
        public int FirstDocument { get; private set; } = -1;
        public int LastDocument { get; private set; } = -1;

        public IEnumerable<PackedContext[]> Batches()
        {
            while (More && read < most)
            {
                var batch = source.Current;
                Count(batch);
                read++;
                yield return batch;
                More = source.MoveNext();
            }
        }

        /// <summary>Passes over batches that nobody took.</summary>
        public void ReadToEnd()
        {
            foreach (var _ in Batches()) { }
        }

        private void Count(PackedContext[] batch)
        {
            foreach (var context in batch)
            {
                Tokens += context.Tokens.Length;
                foreach (int document in context.Documents)
                {
                    Documents += document == LastDocument ? 0 : 1;
                    LastDocument = document;
                    FirstDocument = FirstDocument < 0 ? document : FirstDocument;
                }
            }
        }
    }

    /// <summary>The model, loaded when the first shard is found missing.</summary>
    private sealed class LoadedOnDemand(RunInputs run) : IDisposable
    {
        private Transformer? model;

        public Transformer Model => model ??= run.Model.Load(run.Device);

        public void Dispose() => model?.Dispose();
    }
}
