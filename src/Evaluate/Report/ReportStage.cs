using System.Diagnostics;
using System.Text.Json.Nodes;
using Pipeline.Evaluate.Report.Browser;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Evaluate.Report;

/// <summary>
/// <code>
/// run.json, metrics.jsonl, metrics.json, scaling.json ──> report/index.html
/// features/{index,block-*}.json ────────────────────────> report/features/&lt;hook&gt;/&lt;sae&gt;/{index.html, columns.js, block-*.js}
/// </code>
/// </summary>
public static class ReportStage
{
    private const string PageName = "index.html";

    /// <summary>The stage's folder, compared with what it would be made from now.</summary>
    /// <param name="runFolder">The run.</param>
    /// <param name="shown">Every SAE's evaluation, every hook's scaling law.</param>
    public static StageFolder Folder(string runFolder, IEnumerable<StageFolder> shown) =>
        new(
            Path.Combine(runFolder, "report"),
            "report",
            [],
            [
                .. shown.Select(folder =>
                {
                    string name = Path.GetRelativePath(runFolder, folder.Path).Replace('\\', '/');
                    return new ManifestInput(name, name, folder.Fingerprint);
                }),
            ]
        );

    public static void Run(string runFolder, StageFolder folder)
    {
        var clock = Stopwatch.StartNew();
        folder.Begin();
        folder.Complete(
            Write(runFolder),
            [],
            new JsonObject { ["wall_seconds"] = Math.Round(clock.Elapsed.TotalSeconds, 3) }
        );
    }

    /// <summary>Builds the pages of a finished run again; returns the report's full path.</summary>
    public static string Rebuild(string runFolder)
    {
        string folder = Path.Combine(runFolder, "report");
        var before = Manifest.TryRead(folder);
        var outputs = Write(runFolder);
        RemoveOthers(folder, outputs);
        if (before is not null)
        {
            Manifest.Write(folder, before with { Outputs = outputs });
        }
        return Path.GetFullPath(Path.Combine(folder, PageName));
    }

    private static List<ManifestOutput> Write(string runFolder)
    {
        RequireWhole(runFolder);
        string folder = Path.Combine(runFolder, "report");
        var outputs = new List<ManifestOutput>();
        var model = new RunFolderReader(runFolder).Read(
            (run, sae, features) => outputs.AddRange(BrowserFolder.Write(folder, run.Name, sae, features))
        );
        // The page with the links is written after what they lead to.
        var page = AtomicFile.WriteText(Path.Combine(folder, PageName), ReportPage.Render(model));
        return [ManifestOutput.Of(PageName, page), .. outputs.OrderBy(output => output.Name, StringComparer.Ordinal)];
    }

    /// <summary>Browsers and blocks of an earlier evaluation would be found beside those of this one.</summary>
    private static void RemoveOthers(string folder, IReadOnlyList<ManifestOutput> outputs)
    {
        string browsers = Path.Combine(folder, "features");
        if (!Directory.Exists(browsers))
        {
            return;
        }
        var kept = outputs.Select(output => output.Name).ToHashSet(StringComparer.Ordinal);
        foreach (string file in Directory.GetFiles(browsers, "*", SearchOption.AllDirectories))
        {
            if (!kept.Contains(Path.GetRelativePath(folder, file).Replace('\\', '/')))
            {
                File.Delete(file);
            }
        }
    }

    /// <summary>What the page shows is as it was written. It shows no weights, so those are not read.</summary>
    private static void RequireWhole(string runFolder)
    {
        foreach (var (stage, depth) in new[] { ("train", 2), ("evaluate", 2), ("scaling", 1) })
        {
            foreach (string folder in Below(Path.Combine(runFolder, stage), depth).Order(StringComparer.Ordinal))
            {
                if (Manifest.TryRead(folder) is not { } manifest)
                {
                    continue; // unfinished: the reader says what it misses
                }
                var shown = manifest with
                {
                    Outputs =
                    [
                        .. manifest.Outputs.Where(o => !o.Name.EndsWith(".safetensors", StringComparison.Ordinal)),
                    ],
                };
                if (shown.Verify(folder, rehash: true) is [var fault, ..])
                {
                    throw new CorruptArtifactException(fault.ToString());
                }
            }
        }
    }

    private static IEnumerable<string> Below(string folder, int depth) =>
        !Directory.Exists(folder) ? []
        : depth == 0 ? [folder]
        : Directory.EnumerateDirectories(folder).SelectMany(child => Below(child, depth - 1));
}
