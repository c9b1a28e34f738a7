using System.Diagnostics;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Pipelines;

/// <summary>Ctrl-C, SIGTERM, and many runs at one folder.</summary>
public sealed class SignalTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    private const int Sigint = 2;
    private const int Sigterm = 15;
    private static readonly TimeSpan Allowed = TimeSpan.FromSeconds(10);

    /// <summary>Every stage long enough to be met.</summary>
    private string[] Slow(string run) =>
        [
            "run",
            tiny.Pipeline,
            "--out",
            run,
            "--threads",
            "1",
            "--set",
            "harvest.batch=1",
            "--set",
            "harvest.context=4",
            "--set",
            "train.tokens=60000",
            "--set",
            "evaluate.batch=1",
        ];

    [Theory]
    [InlineData("harvest", Sigterm)]
    [InlineData("harvest", Sigint)]
    [InlineData("train", Sigterm)]
    [InlineData("evaluate", Sigterm)]
    [InlineData("evaluate", Sigint)]
    public void A_signal_in_any_stage_ends_the_run_with_5_and_the_next_goes_on_to_the_same_bytes(
        string stage,
        int signal
    )
    {
        using var folder = new TempFolder();
        SaeProcess.Run(Slow(folder["whole"])).ExitCode.Should().Be(0);

        var process = SaeProcess.Start(Slow(folder["cut"]));
        WaitFor(process, () => Directory.Exists(Path.Combine(folder["cut"], stage)));
        Send(process, signal);
        process.WaitForExit(Allowed).Should().BeTrue("it stops within 10 s");
        var cut = SaeProcess.Finish(process);

        cut.ExitCode.Should().Be(5, cut.Error);
        cut.Error.Should().Contain("Run the command again");
        SaeProcess.Run(Slow(folder["cut"])).ExitCode.Should().Be(0);
        ArtifactHashes.Of(folder["cut"]).Should().Equal(ArtifactHashes.Of(folder["whole"]));
    }

    [Fact]
    public void Two_signals_end_the_run_at_once()
    {
        using var folder = new TempFolder();
        var process = SaeProcess.Start(Slow(folder["run"]));
        WaitFor(process, () => Directory.Exists(Path.Combine(folder["run"], "harvest")));

        Send(process, Sigterm);
        Send(process, Sigterm);

        process.WaitForExit(Allowed).Should().BeTrue();
        SaeProcess.Finish(process).ExitCode.Should().BeOneOf(5, 128 + Sigterm);
    }

    [Fact]
    public void Of_fifty_runs_at_one_folder_one_wins_and_a_killed_winner_leaves_no_lock()
    {
        using var folder = new TempFolder();
        string[] endless = [.. Slow(folder["run"]), "--set", "train.tokens=500000000"];
        var racers = Enumerable.Range(0, 50).Select(_ => SaeProcess.Start(endless)).ToList();

        WaitFor(racers[0], () => racers.Count(racer => racer.HasExited) == 49, onlyWhileRunning: false);
        var winner = racers.Single(racer => !racer.HasExited);
        int holder = winner.Id;
        WaitFor(winner, () => File.Exists(Path.Combine(folder["run"], "harvest", Manifest.FileName)));
        // Reading verbs work beside it.
        SaeProcess.Run("verify", folder["run"]).ExitCode.Should().Be(0);
        SaeProcess.Run("status", folder["run"]).ExitCode.Should().Be(0);
        winner.Kill();
        winner.WaitForExit();
        racers.Remove(winner);
        SaeProcess.Finish(winner);

        var losers = racers.Select(SaeProcess.Finish).ToList();
        losers.Should().AllSatisfy(loser => loser.ExitCode.Should().Be(4, loser.Error));
        // Fifty processes on few cores: a loser may come before the winner has had the time to write its name.
        losers
            .Count(loser =>
                loser.Error.Contains($"process {holder} on {Environment.MachineName}", StringComparison.Ordinal)
            )
            .Should()
            .BeGreaterThan(25);
        losers
            .Should()
            .AllSatisfy(loser => loser.Error.Should().MatchRegex($"held by (process {holder} on|another process)"));
        using var free = RunLock.Acquire(folder["run"]);
    }

    private static void WaitFor(Process process, Func<bool> condition, bool onlyWhileRunning = true)
    {
        var clock = Stopwatch.StartNew();
        while (!condition() && !(onlyWhileRunning && process.HasExited))
        {
            clock.Elapsed.Should().BeLessThan(TimeSpan.FromMinutes(2));
            Thread.Sleep(2);
        }
    }

    private static void Send(Process process, int signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", $"{process.Id}"]);
        kill.WaitForExit();
    }
}
