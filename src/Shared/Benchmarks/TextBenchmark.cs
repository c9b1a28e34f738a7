using System.Text;
using System.Text.Json.Nodes;
using Pipeline.Shared.Text;

namespace Pipeline.Shared.Benchmarks;

/// <summary>A text source read to its end. Bound: its files' bytes, read and left as they are.</summary>
public static class TextBenchmark
{
    /// <param name="source">Documents; they fit the page cache, or the disk is measured.</param>
    /// <param name="repeats">Measured readings.</param>
    public static JsonObject Run(ITextSource source, int repeats)
    {
        ArgumentNullException.ThrowIfNull(source);
        long documents = 0;
        long textBytes = 0;
        long fileBytes = 0;
        byte[] buffer = new byte[1 << 16];
        var (reading, bound) = Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                (documents, textBytes) = (0, 0);
                foreach (var document in source.Read())
                {
                    documents++;
                    textBytes += Encoding.UTF8.GetByteCount(document.Text);
                }
            },
            () =>
            {
                fileBytes = 0;
                foreach (string file in source.Files)
                {
                    using var stream = File.OpenRead(file);
                    for (int read; (read = stream.Read(buffer)) > 0; fileBytes += read) { }
                }
            }
        );
        long peak = Stopclock.PeakMegabytes; // before the report asks libtorch, which takes memory of its own
        return Stopclock.Report(
            new JsonObject
            {
                ["files"] = source.Files.Count,
                ["documents"] = documents,
                ["repeats"] = repeats,
            },
            reading,
            bound,
            new JsonObject
            {
                ["file_mb"] = fileBytes / 1e6,
                ["text_mb"] = textBytes / 1e6,
                ["text_mb_per_s"] = textBytes / 1e3 / reading,
                ["documents_per_s"] = documents / reading * 1000,
                ["reading_peak_rss_mb"] = (double)peak,
            }
        );
    }
}
