using System.Text.RegularExpressions;
using Pipeline.Tests.Pipelines;

namespace Pipeline.Tests;

/// <summary>README's words are run, on less text.</summary>
public partial class ReadmeTests
{
    private static readonly string Readme = File.ReadAllText(Path.Combine(TestData.RepositoryRoot, "README.md"));

    [Fact]
    public void The_first_command_runs_as_written()
    {
        var command = RunCommand().Match(Readme);
        command.Success.Should().BeTrue("README shows dotnet run ... -- run PIPELINE");
        using var folder = new TempFolder();

        var result = SaeProcess.Run(
            "run",
            command.Groups["pipeline"].Value,
            "--out",
            folder.File("run"),
            "--set",
            "harvest.tokens=8k",
            "--set",
            "train.tokens=20k",
            "--set",
            "evaluate.tokens=1k"
        );

        result.ExitCode.Should().Be(0, result.Error);
        result.Output.Should().Contain("loss recovered").And.Contain("index.html");
        foreach (Match line in TreeLine().Matches(Readme))
        {
            string name = line.Groups["name"].Value;
            Directory
                .EnumerateFileSystemEntries(folder.File("run"), name, SearchOption.AllDirectories)
                .Should()
                .NotBeEmpty("README's tree shows {0}", name);
        }
    }

    [Fact]
    public void The_test_command_is_the_one_CI_runs()
    {
        const string Command = "dotnet test -c Release";
        Readme.Should().Contain(Command);
        File.ReadAllText(Path.Combine(TestData.RepositoryRoot, ".ci", "run")).Should().Contain(Command);
    }

    [Fact]
    public void Nothing_tracked_names_a_folder_outside_the_repository()
    {
        string[] extensions = [".cs", ".md", ".yaml", ".json", ".csproj", ".props", ".targets"];
        var files = Directory
            .EnumerateFiles(TestData.RepositoryRoot, "*", SearchOption.AllDirectories)
            .Where(file => extensions.Contains(Path.GetExtension(file)))
            .Where(file => !OutsideSource().IsMatch(Path.GetRelativePath(TestData.RepositoryRoot, file)));

        files.Should().NotBeEmpty();
        files
            .Where(file => File.ReadAllText(file).Contains("/wo" + "rk/", StringComparison.Ordinal))
            .Should()
            .BeEmpty();
    }

    [GeneratedRegex(@"^dotnet run -c Release --project src/Pipeline -- run (?<pipeline>\S+)$", RegexOptions.Multiline)]
    private static partial Regex RunCommand();

    [GeneratedRegex(@"^[ │]*[├└]── (?<name>[\w.-]+\.\w+)", RegexOptions.Multiline)]
    private static partial Regex TreeLine();

    [GeneratedRegex(@"(^|[\\/])(bin|obj|runs|\.git|TestResults)[\\/]")]
    private static partial Regex OutsideSource();
}
