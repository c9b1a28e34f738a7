using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using Pipeline.Evaluate.N2G;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.Features;

/// <summary>Which latents are described, and how.</summary>
/// <param name="Features">Latents with a dashboard.</param>
/// <param name="Patterns">Latents that N2G describes as well; 0 for none.</param>
/// <param name="Seed">The pipeline's.</param>
internal sealed record DashboardSettings(FeatureCount Features, int Patterns, ulong Seed);

/// <summary>
/// One SAE's latents, described:
/// <code>
/// largest activations ──┐                  ┌──> features/block-NNNNN.json   64 latents each, those asked for
/// sample of activations ├──> dashboards ───┤
/// decoder, unembedding ─┤                  └──> features/index.json         all latents in columns
/// ablations of some ────┘
/// </code>
/// A block is published whole as soon as it is made: an interruption costs one block.
/// </summary>
internal sealed class FeatureDashboards : IDisposable
{
    /// <summary>Latents a block file describes, at most.</summary>
    public const int LatentsPerBlock = 64;

    public const string FolderName = "features";
    public const string IndexName = "index.json";

    /// <summary>Tokens with the largest direct effect, and as many with the smallest.</summary>
    private const int Logits = 10;

    private readonly Transformer model;
    private readonly HookPoint hook;
    private readonly Autoencoder sae;
    private readonly ITokenizer tokenizer;
    private readonly DashboardSettings settings;
    private readonly FeatureExamples examples;
    private readonly SampledActivations sample;
    private readonly LatentNeighbours neighbours;
    private readonly ConcurrentDictionary<int, string> texts = [];

    /// <summary>Latents described, ascending.</summary>
    private readonly int[] described;
    private readonly HashSet<int> withPatterns;
    private readonly Dictionary<int, DirectEffect> effects;

    /// <param name="model">The model.</param>
    /// <param name="hook">What the SAE reads.</param>
    /// <param name="sae">Stays the caller's.</param>
    /// <param name="tokenizer">Of the model.</param>
    /// <param name="settings">Which latents.</param>
    /// <param name="examples">Complete.</param>
    /// <param name="contexts">Complete.</param>
    /// <param name="effects">Of some latents, described or not.</param>
    public FeatureDashboards(
        Transformer model,
        HookPoint hook,
        Autoencoder sae,
        ITokenizer tokenizer,
        DashboardSettings settings,
        FeatureExamples examples,
        LatentSample contexts,
        IReadOnlyList<DirectEffect> effects
    )
    {
        (this.model, this.hook, this.sae, this.tokenizer) = (model, hook, sae, tokenizer);
        (this.settings, this.examples) = (settings, examples);
        this.effects = effects.ToDictionary(effect => effect.Latent);
        sample = new SampledActivations(contexts.Contexts, sae.Features, tokenizer.BosId);
        neighbours = new LatentNeighbours(sae.W_dec, sample);
        withPatterns = [.. examples.Spread(settings.Patterns)];
        described = settings.Features.Value is { } count
            ? [.. examples.Spread(count).Union(withPatterns).Order()]
            : [.. Enumerable.Range(0, sae.Features)];
    }

    /// <summary>The id N2G puts in another's place.</summary>
    /// <exception cref="ConfigurationException">The tokenizer has neither EOS nor BOS.</exception>
    public static int PadOf(ITokenizer tokenizer, string modelName) =>
        tokenizer.EosId
        ?? tokenizer.BosId
        ?? throw new ConfigurationException(
            new Fault(
                $"{modelName}: tokenizer",
                "neither an EOS nor a BOS token",
                "one, to put in place of others for evaluate.n2g",
                "Set evaluate.n2g: 0"
            ).ToString()
        );

    /// <summary>Makes the files that are not there yet.</summary>
    /// <param name="folder">Where; blocks are noted there as parts.</param>
    /// <param name="progress">Told now and then how many latents are done, of how many; may throw to stop.</param>
    public IReadOnlyList<ManifestOutput> Publish(StageFolder folder, Action<int, int> progress)
    {
        var outputs = new List<ManifestOutput>();
        int done = 0;
        foreach (int[] latents in described.Chunk(LatentsPerBlock))
        {
            progress(done, described.Length);
            string name = $"{FolderName}/{BlockName(outputs.Count)}.json";
            if (folder.VerifiedPart(name) is not { } digest)
            {
                digest = AtomicFile.Write(
                    Path.Combine(folder.Path, name),
                    stream => WriteBlock(stream, latents, i => progress(done + i, described.Length))
                );
                folder.RecordPart(name, digest);
            }
            outputs.Add(ManifestOutput.Of(name, digest));
            done += latents.Length;
        }
        progress(done, done);
        string index = FeatureIndex.Text(
            sae.Features,
            examples,
            sample.Counted,
            LatentsPerBlock,
            BlockOf,
            settings.Patterns == 0 ? null : ReadQualities(folder.Path, outputs),
            tokenizer.TokenText
        );
        const string IndexPath = $"{FolderName}/{IndexName}";
        outputs.Add(ManifestOutput.Of(IndexPath, AtomicFile.WriteText(Path.Combine(folder.Path, IndexPath), index)));
        return outputs;
    }

    public void Dispose() => neighbours.Dispose();

    /// <summary>A block's file, without folder and ending.</summary>
    public static string BlockName(int block) => string.Create(CultureInfo.InvariantCulture, $"block-{block:D5}");

    private int BlockOf(int latent)
    {
        int place = Array.BinarySearch(described, latent);
        return place < 0 ? -1 : place / LatentsPerBlock;
    }

    /// <summary>As the block files have them, which an earlier process may have written.</summary>
    private static Dictionary<int, PatternQuality> ReadQualities(string folder, IEnumerable<ManifestOutput> blocks)
    {
        var qualities = new Dictionary<int, PatternQuality>();
        foreach (var block in blocks)
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, block.Name)));
            foreach (var latent in json.RootElement.GetProperty("latents").EnumerateArray())
            {
                if (latent.GetProperty("n2g").Deserialize<PatternQuality>(DescribedLatent.Json) is { } quality)
                {
                    qualities.Add(latent.GetProperty("index").GetInt32(), quality);
                }
            }
        }
        return qualities;
    }

    /// <summary>A line for each latent.</summary>
    /// <param name="stream">Receives it.</param>
    /// <param name="latents">Which.</param>
    /// <param name="beforePatterns">Told the place of each latent before its patterns are made, which takes long.</param>
    private void WriteBlock(Stream stream, int[] latents, Action<int> beforePatterns)
    {
        using var scope = NewDisposeScope();
        var nearest = neighbours.ByCosine(latents);
        var logits = LogitsOf(latents);
        var patterns = new N2GLatent?[latents.Length];
        for (int i = 0; i < latents.Length; i++)
        {
            if (withPatterns.Contains(latents[i]))
            {
                beforePatterns(i);
                patterns[i] = PatternsOf(latents[i]);
            }
        }
        var lines = new byte[latents.Length][];
        Pieces.Run(
            latents.Length,
            get_num_threads(),
            i =>
                lines[i] = JsonSerializer.SerializeToUtf8Bytes(
                    Describe(latents[i], nearest[i], logits[i], patterns[i]),
                    DescribedLatent.Json
                )
        );
        stream.Write("{\"latents\": [\n"u8);
        for (int i = 0; i < lines.Length; i++)
        {
            stream.Write(i == 0 ? ""u8 : ",\n"u8);
            stream.Write(lines[i]);
        }
        stream.Write("\n]}\n"u8);
    }

    private DescribedLatent Describe(
        int latent,
        Neighbour[] nearest,
        (LogitEffect[] Top, LogitEffect[] Bottom) logits,
        N2GLatent? patterns
    )
    {
        var edges = ActivationDistribution.Edges(examples.Largest(latent));
        return new DescribedLatent(
            latent,
            examples.Density(latent),
            examples.Largest(latent),
            examples.Mean(latent),
            FeatureIndex.IsDead(examples, latent),
            FeatureIndex.IsDense(examples, latent),
            new DescribedHistogram(edges, ActivationDistribution.Histogram(sample.ValuesOf(latent), edges)),
            logits.Top,
            logits.Bottom,
            nearest,
            neighbours.ByCoactivation(latent),
            effects.GetValueOrDefault(latent) is { } effect ? Describe(effect) : null,
            patterns is null ? null : Describe(patterns),
            [.. examples.Of(latent).Select(Describe)],
            QuantilesOf(latent)
        );
    }

    private static DescribedEffect Describe(DirectEffect effect)
    {
        return new(
            Figure(effect.TopDrop),
            Figure(effect.PredictedTopDrop),
            Figure(effect.AnyDrop),
            Figure(effect.Correlation)
        );

        // As many digits as the logits have.
        static float? Figure(double value) => double.IsFinite(value) ? (float)value : null;
    }

    private DescribedPatterns Describe(N2GLatent found) =>
        new(
            found.Examples,
            found.Score.Predicted,
            found.Score.Fired,
            found.Score.Both,
            found.Score.Precision,
            found.Score.Recall,
            found.Score.F1,
            [
                .. found.Patterns.Select(pattern => new DescribedPattern(
                    [.. pattern.Tokens.Select(token => token is { } id ? TextOf(id) : null)],
                    pattern.CanPadStart,
                    pattern.Activation
                )),
            ]
        );

    private DescribedExample Describe(LatentExample example) =>
        new([.. example.Tokens.Select(TextOf)], example.Activations, example.Peak, example.Document, example.Position);

    private DescribedBand[] QuantilesOf(int latent)
    {
        var random = new Xoshiro256(
            settings.Seed,
            "evaluate",
            string.Create(CultureInfo.InvariantCulture, $"examples of latent {latent}")
        );
        return
        [
            .. ActivationDistribution
                .Quantiles(sample.RowsOf(latent), sample.ValuesOf(latent), random)
                .Select(band => new DescribedBand(
                    band.From,
                    band.To,
                    band.Count,
                    [.. band.Rows.Select(row => Describe(sample.ExampleAt(latent, row)))]
                )),
        ];
    }

    private string TextOf(int token) => texts.GetOrAdd(token, tokenizer.TokenText);

    private N2GLatent PatternsOf(int latent)
    {
        var live = new LiveLatents(model, hook, sae);
        return N2GLatent.Of(
            sample,
            latent,
            lists => live.OfLastTokens(lists, latent),
            PadOf(tokenizer, model.Config.Family),
            N2GLatent.ExampleTokensOf(model.Config.Context)
        );
    }

    /// <summary>Of each latent the tokens whose logits its decoder row raises and lowers most by itself.</summary>
    private (LogitEffect[] Top, LogitEffect[] Bottom)[] LogitsOf(int[] latents)
    {
        using var scope = NewDisposeScope();
        var rowsLD = sae.W_dec.index_select(0, tensor(latents.Select(l => (long)l).ToArray(), device: model.Device));
        var effectLV = new DirectLogitEffect(model).Of(rowsLD);
        var (top, bottom) = (Largest(effectLV, 1), Largest(effectLV.neg_(), -1));
        return [.. top.Zip(bottom)];
    }

    /// <summary>Of each row the tokens of the largest values, these multiplied by <paramref name="sign"/>.</summary>
    private IEnumerable<LogitEffect[]> Largest(Tensor effectLV, int sign)
    {
        // Ids beyond the tokenizer's pad the matrix to a round size.
        int vocabulary = (int)Math.Min(tokenizer.VocabularySize, effectLV.shape[1]);
        int count = Math.Min(Logits, vocabulary);
        var (valuesLN, tokensLN) = effectLV.narrow(1, 0, vocabulary).topk(count, 1);
        float[] values = CpuKernels.ToArray<float>(valuesLN);
        long[] tokens = CpuKernels.ToArray<long>(tokensLN);
        return Enumerable
            .Range(0, (int)effectLV.shape[0])
            .Select(row =>
                Enumerable
                    .Range(row * count, count)
                    .Select(at => new LogitEffect(TextOf((int)tokens[at]), sign * values[at]))
                    .ToArray()
            );
    }
}
