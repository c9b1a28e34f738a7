using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Evaluate.Features;

/// <summary>How well N2G describes a latent; null where there is no figure.</summary>
internal sealed record PatternQuality(double? Precision, double? Recall, double? F1);

/// <summary>features/index.json: a column for each figure, an entry for each latent.</summary>
internal static class FeatureIndex
{
    /// <summary>Share of tokens above which a latent is dense.</summary>
    public const double DenseFrom = 0.1;

    /// <summary>The file's text: a line for each column.</summary>
    /// <param name="features">F.</param>
    /// <param name="examples">What the latents fire on.</param>
    /// <param name="sampleTokens">Tokens of the sample.</param>
    /// <param name="latentsPerBlock">Latents a block file describes, at most.</param>
    /// <param name="blockOf">The block file that describes a latent, or -1.</param>
    /// <param name="qualities">Of latents that N2G describes; null where none was to be.</param>
    /// <param name="textOf">A token's text.</param>
    public static string Text(
        int features,
        FeatureExamples examples,
        long sampleTokens,
        int latentsPerBlock,
        Func<int, int> blockOf,
        IReadOnlyDictionary<int, PatternQuality>? qualities,
        Func<int, string> textOf
    )
    {
        string TopToken(int latent) =>
            examples.Of(latent).FirstOrDefault() is { } top ? textOf(top.Tokens[top.Peak]) : "";
        string Column<T>(Func<int, T> of) =>
            JsonSerializer.Serialize(Enumerable.Range(0, features).Select(of), RelaxedJson.Compact);
        (string Name, string Values)[] columns =
        [
            ("density", Column(examples.Density)),
            ("max_activation", Column(examples.Largest)),
            ("mean_activation", Column(examples.Mean)),
            ("top_token", Column(TopToken)),
            ("dead", Column(latent => IsDead(examples, latent) ? 1 : 0)),
            ("dense", Column(latent => IsDense(examples, latent) ? 1 : 0)),
            ("n2g_f1", Column(latent => qualities?.GetValueOrDefault(latent)?.F1)),
            ("block", Column(blockOf)),
        ];
        return new StringBuilder()
            .Append("{\n")
            .Append($"\"latents\": {features},\n")
            .Append($"\"tokens\": {examples.Tokens},\n")
            .Append($"\"sample_tokens\": {sampleTokens},\n")
            .Append($"\"block\": {latentsPerBlock},\n")
            .Append($"\"n2g\": {Mean(qualities)?.ToJsonString(RelaxedJson.Compact) ?? "null"},\n")
            .Append("\"columns\": {\n")
            .AppendJoin(",\n", columns.Select(column => $"\"{column.Name}\": {column.Values}"))
            .Append("\n},\n")
            .Append($"\"definitions\": {FeatureDefinitions.ToJson().ToJsonString(RelaxedJson.Indented)}\n")
            .Append("}\n")
            .ToString();
    }

    public static bool IsDead(FeatureExamples examples, int latent) => examples.Fired(latent) == 0;

    public static bool IsDense(FeatureExamples examples, int latent) => examples.Density(latent) > DenseFrom;

    /// <summary>Over the latents that have the figure.</summary>
    private static JsonObject? Mean(IReadOnlyDictionary<int, PatternQuality>? qualities) =>
        qualities is null
            ? null
            : new JsonObject
            {
                ["latents"] = qualities.Count,
                ["precision"] = qualities.Values.Average(quality => quality.Precision),
                ["recall"] = qualities.Values.Average(quality => quality.Recall),
                ["f1"] = qualities.Values.Average(quality => quality.F1),
            };
}
