using System.Diagnostics;
using System.Globalization;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public sealed class RunLockTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void A_held_folder_is_refused_within_a_second_naming_process_and_host()
    {
        using var held = RunLock.Acquire(folder["run"]);
        var clock = Stopwatch.StartNew();

        var acquire = () => RunLock.Acquire(folder["run"]);

        acquire
            .Should()
            .Throw<FolderLockedException>()
            .WithMessage($"*process {Environment.ProcessId} on {Environment.MachineName}*");
        clock.Elapsed.Should().BeLessThan(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void A_released_folder_can_be_taken_again()
    {
        RunLock.Acquire(folder.Path).Dispose();
        RunLock.Acquire(folder.Path).Dispose();
    }

    [Fact]
    public void A_killed_holder_is_named_while_it_lives_and_leaves_nothing_to_unlock()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/flock"), "util-linux's flock plays the other process.");
        string path = folder[RunLock.FileName];
        File.AppendAllText(path, """{"pid":4321,"host":"elsewhere"}""");
        using var holder = Process.Start("/usr/bin/flock", ["--no-fork", path, "sleep", "60"]);
        try
        {
            var acquire = () => RunLock.Acquire(folder.Path);
            WaitUntilHeld(path);
            acquire.Should().Throw<FolderLockedException>().WithMessage("*process 4321 on elsewhere*");
        }
        finally
        {
            holder.Kill(); // SIGKILL
            holder.WaitForExit();
        }

        using var taken = RunLock.Acquire(folder.Path);

        var again = () => RunLock.Acquire(folder.Path);
        string pid = Environment.ProcessId.ToString(CultureInfo.InvariantCulture);
        again.Should().Throw<FolderLockedException>().WithMessage($"*process {pid} on*");
    }

    private static void WaitUntilHeld(string path)
    {
        for (int i = 0; i < 500; i++)
        {
            try
            {
                using var probe = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                return;
            }
            Thread.Sleep(10);
        }
        Assert.Fail("flock did not take the lock within 5 s");
    }
}
