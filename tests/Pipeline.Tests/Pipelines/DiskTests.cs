using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;

namespace Pipeline.Tests.Pipelines;

/// <summary>What reaches the disk, in which order, and what happens when it is full.</summary>
public sealed partial class DiskTests(SmallRun small) : IClassFixture<SmallRun>
{
    private const int FillPoints = 20;

    [Fact]
    public void A_file_is_written_flushed_renamed_and_its_folder_flushed_and_the_manifest_comes_last()
    {
        Require("/usr/bin/strace", "strace");
        using var folder = new TempFolder();
        string run = folder["run"];
        SaeProcess.Run(small.Arguments(run)).ExitCode.Should().Be(0);
        string trace = folder["trace"];

        using (
            var process = Process.Start(
                "/usr/bin/strace",
                [
                    "-f",
                    "-y",
                    "-o",
                    trace,
                    "-e",
                    "trace=openat,write,pwrite64,fsync,rename,renameat,renameat2",
                    "dotnet",
                    Path.Combine(AppContext.BaseDirectory, "sae.dll"),
                    "report",
                    run,
                ]
            )
        )
        {
            process.WaitForExit();
            if (process.ExitCode != 0)
            {
                TestData.SkipOrFail("strace cannot trace here.");
            }
        }

        string report = Path.Combine(run, "report");
        string[] lines = File.ReadAllLines(trace);
        int last = -1;
        foreach (string name in new[] { "index.html", "manifest.json" })
        {
            string temporary = $"{report}/.{name}.tmp-";
            last = Next(
                $"opened {name}",
                line =>
                    line.Contains("openat(", Ordinal)
                    && line.Contains(temporary, Ordinal)
                    && line.Contains("O_CREAT", Ordinal)
            );
            last = Next($"written {name}", line => Write().IsMatch(line) && line.Contains($"<{temporary}", Ordinal));
            last = Next(
                $"flushed {name}",
                line => line.Contains("fsync(", Ordinal) && line.Contains($"<{temporary}", Ordinal)
            );
            last = Next(
                $"renamed {name}",
                line => line.Contains("rename", Ordinal) && line.Contains($"\"{report}/{name}\"", Ordinal)
            );
            last = Next(
                $"flushed the folder of {name}",
                line => line.Contains("fsync(", Ordinal) && line.Contains($"<{report}>", Ordinal)
            );
        }

        int Next(string what, Func<string, bool> matches)
        {
            int found = Array.FindIndex(lines, last + 1, line => matches(line));
            found.Should().BeGreaterThan(last, $"{what} comes after the step before it");
            return found;
        }
    }

    [Fact]
    public void A_full_disk_names_the_file_and_the_bytes_and_space_makes_the_run_whole()
    {
        if (Environment.UserName != "root" || !OperatingSystem.IsLinux())
        {
            TestData.SkipOrFail("mounting a tmpfs takes root.");
        }
        long whole = small.BytesOnDisk;
        int full = 0;
        for (int point = 0; point < FillPoints; point++)
        {
            using var disk = new SmallDisk(whole * (point + 1) / (FillPoints + 1));
            string run = Path.Combine(disk.Path, "run");

            var result = SaeProcess.Run(small.Arguments(run));

            if (result.ExitCode == 0)
            {
                continue; // what lies there only for a while was not there at the same time
            }
            full++;
            result.ExitCode.Should().Be(1, result.Error);
            result.Error.Should().MatchRegex(@"no space left on the disk.*room for \d+ bytes").And.Contain(disk.Path);
            Directory.EnumerateFiles(disk.Path, "*.tmp-*", AllFiles).Should().BeEmpty("nothing half written stays");
            disk.Grow();
            small.FinishAndCompare(run, $"full at point {point}").Should().BeNull();
        }
        full.Should().BeGreaterThanOrEqualTo(FillPoints - 2);
    }

    private static readonly EnumerationOptions AllFiles = new()
    {
        RecurseSubdirectories = true,
        AttributesToSkip = FileAttributes.None,
    };

    private const StringComparison Ordinal = StringComparison.Ordinal;

    private static void Require(string program, string package)
    {
        if (!File.Exists(program))
        {
            TestData.SkipOrFail($"{program} is absent: install {package} to run this test.");
        }
    }

    [GeneratedRegex(@"p?write(64)?\(")]
    private static partial Regex Write();

    /// <summary>A file system in memory of a few kilobytes.</summary>
    private sealed class SmallDisk : IDisposable
    {
        private readonly TempFolder folder = new();

        public SmallDisk(long bytes) =>
            Run(
                "mount",
                "-t",
                "tmpfs",
                "-o",
                string.Create(CultureInfo.InvariantCulture, $"size={bytes}"),
                "tmpfs",
                Path
            );

        public string Path => folder.Path;

        public void Grow() => Run("mount", "-o", "remount,size=64m", Path);

        public void Dispose()
        {
            Run("umount", Path);
            folder.Dispose();
        }

        private static void Run(string program, params string[] arguments)
        {
            using var process = Process.Start(program, arguments);
            process.WaitForExit();
            process.ExitCode.Should().Be(0, $"{program} {string.Join(' ', arguments)}");
        }
    }
}
