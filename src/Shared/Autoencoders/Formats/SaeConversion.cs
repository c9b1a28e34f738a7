using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>An SAE read in one library's form and written in another's, with proof that it still does the same.</summary>
/// <param name="From">The format it was found in.</param>
/// <param name="Architecture">What it does at inference.</param>
/// <param name="LargestDifference">
/// max |x̂ - x̂'| / max |x̂| over random activations, between the SAE read and the file written, read again.
/// </param>
public sealed record SaeConversion(string From, string Architecture, double LargestDifference)
{
    private const int ProbeRows = 64;
    private const double Tolerance = 1e-4;

    /// <param name="path">An SAE of any format.</param>
    /// <param name="target">The format to write.</param>
    /// <param name="folder">An empty or new folder.</param>
    /// <exception cref="ConfigurationException">
    /// No SAE at the path, a folder that holds files, or an SAE the format cannot express.
    /// </exception>
    /// <exception cref="StageFailedException">What was written does not do what was read.</exception>
    public static SaeConversion Run(string path, ISaeFormat target, string folder)
    {
        ArgumentNullException.ThrowIfNull(target);
        var source = SaeFormats.Of(path);
        if (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new ConfigurationException(
                new Fault("--out", $"{folder}, which holds files", "a new or empty folder", "Name another").ToString()
            );
        }
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var file = source.Load(path);
        if (file.Origin.TargetHookName is not null && target is not SaeLensFormat)
        {
            throw new ConfigurationException(
                new Fault(
                    path,
                    $"a transcoder to {file.Origin.TargetHookName}",
                    "an autoencoder: only SAELens' form says what a transcoder reconstructs",
                    "Convert it to saelens"
                ).ToString()
            );
        }
        target.Save(folder, file);
        using var written = target.Load(folder);
        double difference = Compare(file.Sae, written.Sae);
        return difference <= Tolerance // NaN fails too
            ? new SaeConversion(source.Name, file.Sae.Architecture, difference)
            : throw new StageFailedException(
                new Fault(
                    folder,
                    $"reconstructions that differ by {difference:G3} of the largest value",
                    $"at most {Tolerance}",
                    "Do not use this folder; report the SAE that led to it"
                ).ToString()
            );
    }

    private static double Compare(Autoencoder before, Autoencoder after)
    {
        using var generator = new Generator(1, CPU);
        var xBD = randn([ProbeRows, before.Width], generator: generator);
        var expectedBD = before.Reconstruct(xBD);
        double largest = Math.Max(1e-30, expectedBD.abs().max().item<float>());
        return (after.Reconstruct(xBD) - expectedBD).abs().max().item<float>() / largest;
    }
}
