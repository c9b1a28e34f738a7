namespace Pipeline.Tests;

/// <summary>
/// Where reference data lies: <c>../shared</c> beside the repository, or the folder PIPELINE_TEST_DATA names. Tests read
/// it in place and skip, saying why, where it is absent; with CI=true absent means failure.
/// </summary>
public static class TestData
{
    public static string RepositoryRoot { get; } = FindRepositoryRoot();

    public static string Root { get; } =
        Environment.GetEnvironmentVariable("PIPELINE_TEST_DATA") is { Length: > 0 } path
            ? Path.GetFullPath(path)
            : Path.GetFullPath(Path.Combine(RepositoryRoot, "..", "shared"));

    /// <summary>The path of a file or folder under the data root; skips the test where there is none.</summary>
    public static string Require(params string[] parts)
    {
        string path = Path.Combine([Root, .. parts]);
        if (!Path.Exists(path))
        {
            SkipOrFail($"{path} is absent; set PIPELINE_TEST_DATA to the folder that holds it.");
        }
        return path;
    }

    /// <summary>Skips the test for something this machine lacks; with CI=true, where nothing may lack, fails it.</summary>
    public static void SkipOrFail(string reason)
    {
        if (Environment.GetEnvironmentVariable("CI") == "true")
        {
            Assert.Fail(reason);
        }
        Assert.Skip(reason);
    }

    private static string FindRepositoryRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Pipeline.sln")))
            {
                return folder.FullName;
            }
        }
        throw new DirectoryNotFoundException($"No Pipeline.sln above {AppContext.BaseDirectory}.");
    }
}
