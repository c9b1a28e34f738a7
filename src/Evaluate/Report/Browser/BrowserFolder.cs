using System.Text.Json;
using Pipeline.Evaluate.Features;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Evaluate.Report.Browser;

// features/index.json ──────> columns.js ─────┐
// features/block-*.json ────> block-*.js ─────┼──> report/features/<hook>/<sae>/, which opens from disk
// latent.js, browser.js ────> index.html ─────┘

/// <summary>
/// The feature browser of one SAE. Its data lie beside it as scripts, because a page opened from disk may load scripts
/// but not fetch files; blocks are loaded as a reader comes to them.
/// </summary>
internal static class BrowserFolder
{
    private const string PageName = "index.html";
    private const string ColumnsName = "columns";

    /// <summary>The browser's folder in the report's, with <c>/</c>.</summary>
    public static string NameOf(string hookAndSae) => $"features/{hookAndSae}";

    /// <summary>The page's address from the report, for a link.</summary>
    public static string LinkTo(string hookAndSae, int? latent = null)
    {
        string folder = string.Join('/', NameOf(hookAndSae).Split('/').Select(Uri.EscapeDataString));
        return $"{folder}/{PageName}" + (latent is { } index ? FormattableString.Invariant($"#latent={index}") : "");
    }

    /// <summary>Writes a browser; returns its files by their names in the report's folder.</summary>
    public static IReadOnlyList<ManifestOutput> Write(
        string reportFolder,
        string runName,
        SaeResult sae,
        FeatureFiles features
    )
    {
        string name = NameOf(sae.HookAndSae);
        ManifestOutput Output(string file, Action<Stream> write) =>
            ManifestOutput.Of($"{name}/{file}", AtomicFile.Write(Path.Combine(reportFolder, name, file), write));
        return
        [
            Output($"{ColumnsName}.js", stream => WriteScript(stream, ColumnsName, features.Index.Element)),
            .. Enumerable
                .Range(0, features.Blocks)
                .Select(number =>
                {
                    string block = FeatureDashboards.BlockName(number);
                    return Output($"{block}.js", stream => WriteScript(stream, block, features.Block(number).Element));
                }),
            ManifestOutput.Of(
                $"{name}/{PageName}",
                AtomicFile.WriteText(
                    Path.Combine(reportFolder, name, PageName),
                    BrowserPage.Render(runName, sae, features.Columns)
                )
            ),
        ];
    }

    /// <summary>
    /// <c>saeData("name", "json")</c>. The JSON stands in a string, not as an object literal: engines parse it faster, and no
    /// key of it can mean anything to the script.
    /// </summary>
    private static void WriteScript(Stream stream, string name, JsonElement json)
    {
        string compact = JsonSerializer.Serialize(json, RelaxedJson.Compact);
        using StreamWriter writer = new(stream, leaveOpen: true);
        writer.Write($"saeData(\"{name}\", ");
        writer.Write(JsonSerializer.Serialize(compact, RelaxedJson.Compact));
        writer.Write(");\n");
    }
}
