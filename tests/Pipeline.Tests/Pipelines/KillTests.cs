using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Pipeline.Shared;

namespace Pipeline.Tests.Pipelines;

/// <summary>
/// SIGKILL at every step that makes or removes an artifact, and at random moments of every stage: the run that follows ends
/// in the bytes of one that was never killed. <c>PIPELINE_CHAOS=N</c> asks for N random kills a stage (3 without it) and
/// for every failpoint (without it, each kind of them once).
/// </summary>
public sealed class KillTests(SmallRun small) : IClassFixture<SmallRun>
{
    private static readonly int? Chaos = int.TryParse(
        Environment.GetEnvironmentVariable("PIPELINE_CHAOS"),
        CultureInfo.InvariantCulture,
        out int kills
    )
        ? kills
        : null;

    [Fact]
    public void Killed_at_any_failpoint_a_run_ends_in_the_same_bytes()
    {
        string[] passed = small.Failpoints;
        passed.Length.Should().BeGreaterThan(100);
        foreach (string step in new[] { "created", "written", "flushed", "renamed", "published", "begun" })
        {
            passed.Should().Contain(line => line.StartsWith(step + " ", StringComparison.Ordinal));
        }
        foreach (
            string file in new[]
            {
                "shard-00000.arrow",
                "checkpoint.json",
                "sae_weights.safetensors",
                "metrics.json",
                "columns.js",
                "block-00000.js",
            }
        )
        {
            passed.Should().Contain($"renamed {file}");
        }
        int[] numbers = [.. Enumerable.Range(1, passed.Length).Where(n => Chaos is not null || IsFirstOfItsKind(n))];

        ForEach(
            numbers,
            number =>
            {
                using var folder = new TempFolder();
                var environment = new Dictionary<string, string?> { ["PIPELINE_FAILPOINT"] = $"{number}" };
                var killed = SaeProcess.Finish(SaeProcess.Start(environment, small.Arguments(folder["run"])));
                killed.ExitCode.Should().Be(137, $"failpoint {number} kills: {killed.Error}");
                return small.FinishAndCompare(folder["run"], $"killed after '{passed[number - 1]}' ({number})");
            }
        );

        bool IsFirstOfItsKind(int number) => Array.IndexOf(passed, passed[number - 1]) == number - 1;
    }

    [Theory]
    [InlineData("harvest")]
    [InlineData("train")]
    [InlineData("evaluate")]
    public void Killed_at_random_moments_of_a_stage_a_run_ends_in_the_same_bytes(string stage)
    {
        var random = new Xoshiro256((ulong)stage.Length);
        int[] delays = [.. Enumerable.Range(0, Chaos ?? 3).Select(_ => random.NextInt(small.MillisecondsOf(stage)))];

        ForEach(
            delays,
            delay =>
            {
                using var folder = new TempFolder();
                using var process = SaeProcess.Start(small.Arguments(folder["run"]));
                var output = process.StandardOutput.ReadToEndAsync();
                var error = process.StandardError.ReadToEndAsync();
                string begun = Path.Combine(folder["run"], stage);
                while (!Directory.Exists(begun) && !process.HasExited)
                {
                    Thread.Sleep(1);
                }
                Thread.Sleep(delay);
                process.Kill();
                process.WaitForExit();
                Task.WaitAll(output, error);
                return small.FinishAndCompare(folder["run"], $"killed {delay} ms into {stage}");
            }
        );
    }

    /// <summary>Two at a time: most of a run of this size is the start of a process.</summary>
    private static void ForEach(int[] items, Func<int, string?> differenceOf)
    {
        var differences = new ConcurrentBag<string>();
        Parallel.ForEach(
            items,
            new ParallelOptions { MaxDegreeOfParallelism = 2 },
            item =>
            {
                if (differenceOf(item) is { } difference)
                {
                    differences.Add(difference);
                }
            }
        );
        TestContext.Current.SendDiagnosticMessage($"{items.Length} kills, {differences.Count} differing runs");
        differences.Should().BeEmpty();
    }
}

/// <summary>The tiny pipeline made smaller still, run once whole: what killed ones are compared with.</summary>
public sealed class SmallRun : IDisposable
{
    private readonly TinyRun tiny = new();
    private readonly TempFolder folder = new();
    private readonly SortedDictionary<string, string> expected;
    private readonly Dictionary<string, int> milliseconds = [];

    public SmallRun()
    {
        string log = folder["failpoints"];
        var environment = new Dictionary<string, string?> { ["PIPELINE_FAILPOINT_LOG"] = log };
        using var process = SaeProcess.Start(environment, Arguments(folder["whole"]));
        Time(process);
        process.ExitCode.Should().Be(0);
        Failpoints = File.ReadAllLines(log);
        expected = ArtifactHashes.Of(folder["whole"]);
    }

    /// <summary>What the whole run passed, in order.</summary>
    public string[] Failpoints { get; }

    public string[] Arguments(string run) =>
        [
            "run",
            tiny.Pipeline,
            "--out",
            run,
            "--threads",
            "1",
            "--set",
            "harvest.hooks=[blocks.0.hook_resid_post]",
            "--set",
            "harvest.tokens=1024",
            "--set",
            "train.tokens=2560",
            "--set",
            "train.checkpointEvery=1280",
        ];

    /// <summary>What the whole run takes on a disk of 4 KB pages, folders not counted.</summary>
    public long BytesOnDisk =>
        Directory
            .EnumerateFiles(folder["whole"], "*", SearchOption.AllDirectories)
            .Sum(file => (new FileInfo(file).Length + 4095) / 4096 * 4096);

    /// <summary>How long the whole run's stage took, at least 1.</summary>
    public int MillisecondsOf(string stage) => Math.Max(1, milliseconds[stage]);

    /// <summary>Runs what a kill left to its end; what differs from the whole run, or null.</summary>
    public string? FinishAndCompare(string run, string what)
    {
        var result = SaeProcess.Run(Arguments(run));
        if (result.ExitCode != 0)
        {
            return $"{what}: exit {result.ExitCode}: {result.Error}";
        }
        var actual = ArtifactHashes.Of(run);
        string[] names =
        [
            .. expected
                .Keys.Union(actual.Keys)
                .Where(n => expected.GetValueOrDefault(n) != actual.GetValueOrDefault(n)),
        ];
        string[] leftovers =
        [
            .. Directory
                .EnumerateFileSystemEntries(run, ".*", SearchOption.AllDirectories)
                .Select(path => Path.GetRelativePath(run, path))
                .Where(name => name != ".lock"),
        ];
        return names.Length + leftovers.Length == 0 ? null : $"{what}: {string.Join(", ", names.Concat(leftovers))}";
    }

    public void Dispose()
    {
        tiny.Dispose();
        folder.Dispose();
    }

    /// <summary>When each stage's folder appears, while a process runs.</summary>
    private void Time(Process process)
    {
        string[] stages = ["harvest", "train", "evaluate", "report"];
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        var clock = Stopwatch.StartNew();
        var begun = new Dictionary<string, long>();
        while (!process.HasExited)
        {
            foreach (
                string stage in stages.Where(s =>
                    !begun.ContainsKey(s) && Directory.Exists(Path.Combine(folder["whole"], s))
                )
            )
            {
                begun[stage] = clock.ElapsedMilliseconds;
            }
            Thread.Sleep(1);
        }
        Task.WaitAll(output, error);
        foreach (var (stage, next) in stages.Zip(stages.Skip(1)))
        {
            milliseconds[stage] = (int)(
                begun.GetValueOrDefault(next, clock.ElapsedMilliseconds) - begun.GetValueOrDefault(stage)
            );
        }
    }
}
