using System.Diagnostics;

namespace Pipeline.Tests.Pipelines;

/// <summary>The pipeline on a real Slurm cluster of two nodes, started on this machine.</summary>
public sealed class SlurmTests(TinyRun tiny, SlurmCluster cluster) : IClassFixture<TinyRun>, IClassFixture<SlurmCluster>
{
    [Fact]
    public void A_run_on_Slurm_leaves_what_a_local_run_leaves_also_when_workers_are_killed()
    {
        cluster.Require();
        using var alone = new TempFolder();
        using var shared = new TempFolder();
        SaeProcess.Run("run", tiny.Pipeline, "--out", alone.Path, "--threads", "1").ExitCode.Should().Be(0);

        var running = SaeProcess.Start(
            cluster.Environment,
            "run",
            tiny.Pipeline,
            "--out",
            shared.Path,
            "--threads",
            "1",
            "--executor",
            "slurm"
        );
        int killed = KillWorkers(running, shared.Path, wanted: 2);
        var result = SaeProcess.Finish(running);

        result.ExitCode.Should().Be(0, result.Error);
        killed.Should().Be(2);
        result.Output.Should().Contain("as Slurm job");
        ArtifactHashes.Of(shared.Path).Should().Equal(ArtifactHashes.Of(alone.Path));
    }

    [Fact]
    public void Where_there_is_no_Slurm_the_run_says_so()
    {
        using var folder = new TempFolder();
        var nothing = new Dictionary<string, string?> { ["PATH"] = folder.Path };

        var result = SaeProcess.Finish(
            SaeProcess.Start(nothing, "run", tiny.Pipeline, "--out", folder["run"], "--executor", "slurm")
        );

        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain("no command sbatch").And.Contain("--executor local");
    }

    /// <summary>SIGKILL to the first workers seen, by their command line.</summary>
    private static int KillWorkers(Process coordinator, string folder, int wanted)
    {
        var killed = new HashSet<int>();
        while (!coordinator.HasExited && killed.Count < wanted)
        {
            foreach (string process in Directory.EnumerateDirectories("/proc"))
            {
                if (!int.TryParse(Path.GetFileName(process), out int id) || killed.Count == wanted)
                {
                    continue;
                }
                try
                {
                    string command = File.ReadAllText(Path.Combine(process, "cmdline"));
                    if (
                        command.Contains(folder, StringComparison.Ordinal)
                        && command.Contains("--shard-index", StringComparison.Ordinal)
                        && killed.Add(id)
                    )
                    {
                        Process.GetProcessById(id).Kill();
                    }
                }
                catch (Exception e) when (e is IOException or ArgumentException or InvalidOperationException) { }
            }
        }
        return killed.Count;
    }
}

/// <summary>Two Slurm nodes on this machine, where it has Slurm; up as long as the tests that use it.</summary>
public sealed class SlurmCluster : IDisposable
{
    private readonly string? absent;
    private readonly string root = Path.Combine("/tmp", $"slurm-{System.Environment.ProcessId}");

    public SlurmCluster()
    {
        string[] programs = ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged", "/usr/bin/sbatch"];
        absent =
            programs.FirstOrDefault(program => !File.Exists(program)) is { } missing ? $"{missing} is absent"
            : System.Environment.UserName != "root" ? "starting Slurm takes root"
            : null;
        if (absent is null)
        {
            Script("up");
        }
    }

    public Dictionary<string, string?> Environment => new() { ["SLURM_CONF"] = Path.Combine(root, "slurm.conf") };

    /// <summary>Skips the test where there is no Slurm; fails it there with CI=true.</summary>
    public void Require()
    {
        if (absent is not null)
        {
            TestData.SkipOrFail($"{absent}: install slurmctld, slurmd, slurm-client and munge to run this test.");
        }
    }

    public void Dispose()
    {
        if (absent is null)
        {
            Script("down");
            Directory.Delete(root, recursive: true);
        }
    }

    private void Script(string verb)
    {
        string script = Path.Combine(
            TestData.RepositoryRoot,
            "tests",
            "Pipeline.Tests",
            "Pipelines",
            "slurm-cluster.sh"
        );
        using var process = Process.Start("/bin/bash", [script, verb, root]);
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{script} {verb} ended with {process.ExitCode}");
        }
    }
}
