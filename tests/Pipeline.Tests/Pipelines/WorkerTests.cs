using System.Diagnostics;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Pipelines;

/// <summary>Stages shared by several processes.</summary>
public sealed class WorkerTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Any_number_of_workers_at_once_leaves_the_same_artifacts(int count)
    {
        using var alone = new TempFolder();
        using var shared = new TempFolder();
        SaeProcess.Run("run", tiny.Pipeline, "--out", alone.Path, "--threads", "1").ExitCode.Should().Be(0);

        foreach (string stage in new[] { "harvest", "train", "evaluate" })
        {
            var workers = Enumerable.Range(0, count).Select(i => Start(shared.Path, stage, i, count)).ToList();
            workers
                .Select(SaeProcess.Finish)
                .ToList()
                .Should()
                .AllSatisfy(result => result.ExitCode.Should().Be(0, result.Error));
            // The one who started them seals what they share.
            var seal = SaeProcess.Run("run", tiny.Pipeline, "--out", shared.Path, "--threads", "1", "--only", stage);
            seal.ExitCode.Should().Be(0, seal.Error);
        }
        SaeProcess.Run("run", tiny.Pipeline, "--out", shared.Path, "--threads", "1").ExitCode.Should().Be(0);

        ArtifactHashes.Of(shared.Path).Should().Equal(ArtifactHashes.Of(alone.Path));
    }

    [Theory]
    [InlineData("--shard-index 0", "both")]
    [InlineData("--shard-index 2 --shard-count 2 --only harvest", "index from 0")]
    [InlineData("--shard-index 0 --shard-count 2", "--only")]
    [InlineData("--shard-index 0 --shard-count 2 --only report", "harvest, train or evaluate")]
    [InlineData("--executor cloud", "local or slurm")]
    public void A_share_that_makes_no_sense_is_refused(string arguments, string named)
    {
        using var folder = new TempFolder();

        var result = SaeProcess.Run(["run", tiny.Pipeline, "--out", folder["run"], .. arguments.Split(' ')]);

        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain(named);
    }

    [Fact]
    public void A_worker_whose_inputs_are_not_there_says_which()
    {
        using var folder = new TempFolder();

        var result = SaeProcess.Finish(Start(folder["run"], "train", 0, 1));

        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain("train without harvest");
    }

    [Fact]
    public void Two_processes_that_made_one_part_differently_are_a_hard_error()
    {
        using var folder = new TempFolder();
        var journal = new PartJournal(folder.Path);
        var digest = AtomicFile.WriteText(folder["a"], "a");
        journal.Record("a", digest);
        journal.Record("a", digest);

        ((Action)(() => journal.Record("a", digest with { Sha256 = "other" })))
            .Should()
            .Throw<StageFailedException>()
            .WithMessage("*from one process*from another*");
    }

    [Fact]
    public void A_part_counts_only_with_the_bytes_it_was_recorded_with()
    {
        using var folder = new TempFolder();
        var journal = new PartJournal(folder.Path);
        var digest = AtomicFile.WriteText(folder["a"], "aa");

        journal.Verified("a").Should().BeNull("nobody recorded it");
        journal.Record("a", digest);
        journal.Verified("a").Should().Be(digest);
        TempFolder.Overwrite(folder["a"], "ab"u8);
        journal.Verified("a").Should().BeNull("it was altered");
        File.Delete(folder["a"]);
        journal.Verified("a").Should().BeNull("it is gone");
        TempFolder.Overwrite(Path.Combine(folder.Path, PartJournal.FolderName, "a.json"), "{"u8);
        journal.Verified("a").Should().BeNull("its entry is damaged");
    }

    private Process Start(string folder, string stage, int index, int count) =>
        SaeProcess.Start(
            "run",
            tiny.Pipeline,
            "--out",
            folder,
            "--threads",
            "1",
            "--only",
            stage,
            "--shard-index",
            $"{index}",
            "--shard-count",
            $"{count}"
        );
}
