using System.Buffers;
using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Encodings.Web;
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
/// decoder, unembedding ─┘                  └──> features/index.json         all latents in columns
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

    private static readonly JsonWriterOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly Transformer model;
    private readonly HookPoint hook;
    private readonly Autoencoder sae;
    private readonly ITokenizer tokenizer;
    private readonly DashboardSettings settings;
    private readonly FeatureExamples examples;
    private readonly SampledActivations sample;
    private readonly LatentNeighbours neighbours;
    private readonly ConcurrentDictionary<int, JsonEncodedText> texts = [];

    /// <summary>Latents described, ascending.</summary>
    private readonly int[] described;
    private readonly HashSet<int> withPatterns;

    /// <param name="model">The model.</param>
    /// <param name="hook">What the SAE reads.</param>
    /// <param name="sae">Stays the caller's.</param>
    /// <param name="tokenizer">Of the model.</param>
    /// <param name="settings">Which latents.</param>
    /// <param name="examples">Complete.</param>
    /// <param name="contexts">Complete.</param>
    public FeatureDashboards(
        Transformer model,
        HookPoint hook,
        Autoencoder sae,
        ITokenizer tokenizer,
        DashboardSettings settings,
        FeatureExamples examples,
        LatentSample contexts
    )
    {
        (this.model, this.hook, this.sae, this.tokenizer) = (model, hook, sae, tokenizer);
        (this.settings, this.examples) = (settings, examples);
        sample = new SampledActivations(contexts.Contexts, sae.Features);
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
            sample.Rows,
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
                if (latent.GetProperty("n2g") is { ValueKind: JsonValueKind.Object } patterns)
                {
                    double? Figure(string name) =>
                        patterns.GetProperty(name) is { ValueKind: JsonValueKind.Number } figure
                            ? figure.GetDouble()
                            : null;
                    qualities.Add(
                        latent.GetProperty("index").GetInt32(),
                        new PatternQuality(Figure("precision"), Figure("recall"), Figure("f1"))
                    );
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
        var lines = new ArrayBufferWriter<byte>[latents.Length];
        Parallel.For(
            0,
            latents.Length,
            CpuKernels.Threads,
            i =>
            {
                lines[i] = new ArrayBufferWriter<byte>();
                using var json = new Utf8JsonWriter(lines[i], Relaxed);
                WriteLatent(json, latents[i], nearest[i], logits[i], patterns[i]);
            }
        );
        stream.Write("{\"latents\": [\n"u8);
        for (int i = 0; i < lines.Length; i++)
        {
            stream.Write(i == 0 ? ""u8 : ",\n"u8);
            stream.Write(lines[i].WrittenSpan);
        }
        stream.Write("\n]}\n"u8);
    }

    private void WriteLatent(
        Utf8JsonWriter json,
        int latent,
        Neighbour[] nearest,
        ((int Token, float Value)[] Top, (int Token, float Value)[] Bottom) logits,
        N2GLatent? patterns
    )
    {
        json.WriteStartObject();
        json.WriteNumber("index", latent);
        json.WriteNumber("density", examples.Density(latent));
        json.WriteNumber("max_activation", examples.Largest(latent));
        json.WriteNumber("mean_activation", examples.Mean(latent));
        json.WriteBoolean("dead", FeatureIndex.IsDead(examples, latent));
        json.WriteBoolean("dense", FeatureIndex.IsDense(examples, latent));
        WriteHistogram(json, latent);
        WriteLogits(json, "top_logits", logits.Top);
        WriteLogits(json, "bottom_logits", logits.Bottom);
        WriteNeighbours(json, "nearest_cosine", nearest);
        WriteNeighbours(json, "nearest_coactivation", neighbours.ByCoactivation(latent));
        WritePatterns(json, patterns);
        WriteArray(json, "top", [.. examples.Of(latent)], example => WriteExample(json, example));
        WriteQuantiles(json, latent);
        json.WriteEndObject();
    }

    private void WriteHistogram(Utf8JsonWriter json, int latent)
    {
        var edges = ActivationDistribution.Edges(examples.Largest(latent));
        json.WriteStartObject("histogram");
        WriteArray(json, "edges", edges, json.WriteNumberValue);
        WriteArray(
            json,
            "counts",
            ActivationDistribution.Histogram(sample.ValuesOf(latent), edges),
            json.WriteNumberValue
        );
        json.WriteEndObject();
    }

    private void WriteLogits(Utf8JsonWriter json, string name, (int Token, float Value)[] logits) =>
        WriteArray(
            json,
            name,
            logits,
            logit =>
            {
                json.WriteStartObject();
                json.WriteString("token", TextOf(logit.Token));
                json.WriteNumber("value", logit.Value);
                json.WriteEndObject();
            }
        );

    private static void WriteNeighbours(Utf8JsonWriter json, string name, Neighbour[] nearest) =>
        WriteArray(
            json,
            name,
            nearest,
            neighbour =>
            {
                json.WriteStartObject();
                json.WriteNumber("latent", neighbour.Latent);
                json.WriteNumber("value", neighbour.Value);
                json.WriteEndObject();
            }
        );

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

    private void WritePatterns(Utf8JsonWriter json, N2GLatent? found)
    {
        if (found is null)
        {
            json.WriteNull("n2g");
            return;
        }
        json.WriteStartObject("n2g");
        json.WriteNumber("examples", found.Examples);
        json.WriteNumber("predicted", found.Score.Predicted);
        json.WriteNumber("fired", found.Score.Fired);
        json.WriteNumber("both", found.Score.Both);
        WriteFigure(json, "precision", found.Score.Precision);
        WriteFigure(json, "recall", found.Score.Recall);
        WriteFigure(json, "f1", found.Score.F1);
        WriteArray(
            json,
            "patterns",
            found.Patterns,
            pattern =>
            {
                json.WriteStartObject();
                WriteArray(json, "tokens", pattern.Tokens, token => WriteToken(json, token));
                json.WriteBoolean("can_pad_start", pattern.CanPadStart);
                json.WriteNumber("activation", pattern.Activation);
                json.WriteEndObject();
            }
        );
        json.WriteEndObject();
    }

    private void WriteQuantiles(Utf8JsonWriter json, int latent)
    {
        var random = new Xoshiro256(
            settings.Seed,
            "evaluate",
            string.Create(CultureInfo.InvariantCulture, $"examples of latent {latent}")
        );
        WriteArray(
            json,
            "quantiles",
            ActivationDistribution.Quantiles(sample.RowsOf(latent), sample.ValuesOf(latent), random),
            band =>
            {
                json.WriteStartObject();
                json.WriteNumber("from", band.From);
                json.WriteNumber("to", band.To);
                json.WriteNumber("count", band.Count);
                WriteArray(json, "examples", band.Rows, row => WriteExample(json, sample.ExampleAt(latent, row)));
                json.WriteEndObject();
            }
        );
    }

    private void WriteExample(Utf8JsonWriter json, LatentExample example)
    {
        json.WriteStartObject();
        WriteArray(json, "tokens", example.Tokens, token => WriteToken(json, token));
        WriteArray(json, "activations", example.Activations, json.WriteNumberValue);
        json.WriteNumber("peak", example.Peak);
        json.WriteNumber("document", example.Document);
        json.WriteNumber("position", example.Position);
        json.WriteEndObject();
    }

    private static void WriteArray<T>(Utf8JsonWriter json, string name, IReadOnlyList<T> values, Action<T> write)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            write(value);
        }
        json.WriteEndArray();
    }

    private static void WriteFigure(Utf8JsonWriter json, string name, double? figure)
    {
        if (figure is { } value)
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private void WriteToken(Utf8JsonWriter json, int? token)
    {
        if (token is { } id)
        {
            json.WriteStringValue(TextOf(id));
        }
        else
        {
            json.WriteNullValue();
        }
    }

    private JsonEncodedText TextOf(int token) =>
        texts.GetOrAdd(token, id => JsonEncodedText.Encode(tokenizer.TokenText(id), Relaxed.Encoder));

    /// <summary>Of each latent the tokens whose logits its decoder row raises and lowers most by itself.</summary>
    private ((int Token, float Value)[] Top, (int Token, float Value)[] Bottom)[] LogitsOf(int[] latents)
    {
        using var scope = NewDisposeScope();
        var rowsLD = sae.W_dec.index_select(0, tensor(latents.Select(l => (long)l).ToArray(), device: model.Device));
        var effectLV = new DirectLogitEffect(model).Of(rowsLD);
        var (top, bottom) = (Largest(effectLV, 1), Largest(effectLV.neg_(), -1));
        return [.. top.Zip(bottom)];
    }

    /// <summary>Of each row the tokens of the largest values, these multiplied by <paramref name="sign"/>.</summary>
    private IEnumerable<(int Token, float Value)[]> Largest(Tensor effectLV, int sign)
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
                Enumerable.Range(row * count, count).Select(at => ((int)tokens[at], sign * values[at])).ToArray()
            );
    }
}
