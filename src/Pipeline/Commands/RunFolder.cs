using System.CommandLine;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Commands;

/// <summary>A run's folder given on the command line, and the stage folders in it.</summary>
internal static class RunFolder
{
    public static Argument<string> Argument() =>
        new("folder") { Description = "A run's folder, such as runs/quickstart." };

    /// <exception cref="ConfigurationException">No such folder, or nothing a run left.</exception>
    public static IReadOnlyList<string> Stages(string folder)
    {
        string[] stages = Directory.Exists(folder)
            ?
            [
                .. Directory
                    .EnumerateFiles(
                        folder,
                        "*",
                        new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None }
                    )
                    .Where(file => Path.GetFileName(file) is Manifest.FileName or StageFolder.WorkName)
                    .Select(file => Path.GetDirectoryName(file)!)
                    .Distinct(StringComparer.Ordinal)
                    .OrderBy(path => Order(folder, path))
                    .ThenBy(path => path, StringComparer.Ordinal),
            ]
            : [];
        return stages.Length > 0
            ? stages
            : throw new ConfigurationException(
                new Fault(folder, "no stage", "a folder that sae run made", "Check the path").ToString()
            );
    }

    private static int Order(string folder, string path)
    {
        string first = Path.GetRelativePath(folder, path).Split(Path.DirectorySeparatorChar)[0];
        int index = StageGraph.StageNames.ToList().IndexOf(first);
        return index < 0 ? int.MaxValue : index;
    }
}
