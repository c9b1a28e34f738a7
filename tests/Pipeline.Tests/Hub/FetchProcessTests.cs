using System.Diagnostics;
using Pipeline.Tests.Pipelines;

namespace Pipeline.Tests.Hub;

/// <summary>The real command against the server.</summary>
public sealed class FetchProcessTests
{
    private const int MiB = 1 << 20;
    private const long MostFetchedAgain = 10_000_000;

    [Fact]
    public async Task A_killed_fetch_is_taken_up_fetching_at_most_10_MB_again()
    {
        await using var test = await HubTest.StartAsync();
        byte[] content = HubTest.Bytes(40 * MiB);
        var file = test.Server.Add("big.bin", content);
        string partial = Path.Combine(test.RepositoryFolder, "blobs", file.ETag + ".incomplete");
        // Each of the first two processes is sent up to a mark beyond the point at which it is killed, so that the kill
        // falls into the transfer and never behind its end, however slow this machine is.
        var ends = new long[2];
        test.Server.Script(
            Route.Cdn,
            exchange => UpTo(exchange, 20 * MiB, partial, ends, 0),
            exchange => UpTo(exchange, 36 * MiB, partial, ends, 1)
        );

        foreach (int kill in new[] { 12 * MiB, 28 * MiB })
        {
            using var process = Start(test);
            while (!(new FileInfo(partial) is { Exists: true } grown && grown.Length >= kill))
            {
                process.HasExited.Should().BeFalse("it is not done yet");
                await Task.Delay(2, TestContext.Current.CancellationToken);
            }
            process.Kill(); // SIGKILL
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        var result = SaeProcess.Finish(Start(test));

        result.ExitCode.Should().Be(0, result.Error);
        File.ReadAllBytes(result.Output.Trim()).AsSpan().SequenceEqual(content).Should().BeTrue();
        long[] starts =
        [
            .. test.Server.Bodies.Where(request => request.Route == Route.Cdn).Select(request => Start(request.Range)),
        ];
        starts.Should().HaveCount(3);
        starts[1].Should().BeGreaterThanOrEqualTo(12 * MiB);
        starts[2].Should().BeGreaterThanOrEqualTo(28 * MiB);
        for (int i = 0; i < ends.Length; i++)
        {
            long again = ends[i] - starts[i + 1];
            TestContext.Current.TestOutputHelper?.WriteLine($"kill {i + 1}: {again} bytes sent again");
            again.Should().BeLessThanOrEqualTo(MostFetchedAgain);
        }
        test.ShouldBeSound(result.Output + result.Error);
    }

    [Fact]
    public async Task Eight_processes_fetching_the_same_file_at_once_download_it_once()
    {
        const int processes = 8;
        await using var test = await HubTest.StartAsync();
        byte[] content = HubTest.Bytes(3 * MiB);
        test.Server.Add("big.bin", content);
        // The first does not get its file before the last has begun.
        test.Server.Script(
            Route.Cdn,
            async exchange =>
            {
                while (test.Server.Count(Route.Revision) < processes)
                {
                    await Task.Delay(2, exchange.Context.RequestAborted);
                }
                await exchange.BodyAsync();
            }
        );

        Process[] started = [.. Enumerable.Range(0, processes).Select(_ => Start(test))];
        SaeProcess.Result[] results = [.. started.Select(SaeProcess.Finish)];

        results.Should().OnlyContain(result => result.ExitCode == 0);
        test.Server.BodyBytes.Should().Be(content.Length);
        string path = results.Select(result => result.Output.Trim()).Distinct().Should().ContainSingle().Subject;
        File.ReadAllBytes(path).AsSpan().SequenceEqual(content).Should().BeTrue();
        test.ShouldBeSound(string.Concat(results.Select(result => result.Output + result.Error)));
    }

    [Fact]
    public async Task A_terminated_fetch_exits_with_5_and_keeps_what_arrived()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "SIGTERM is Unix'.");
        await using var test = await HubTest.StartAsync();
        var file = test.Server.Add("big.bin", HubTest.Bytes(2 * MiB));
        string partial = Path.Combine(test.RepositoryFolder, "blobs", file.ETag + ".incomplete");
        test.Server.Script(Route.Cdn, exchange => UpTo(exchange, MiB, partial, new long[1], 0));

        var process = Start(test);
        while (!(new FileInfo(partial) is { Exists: true } grown && grown.Length == MiB))
        {
            process.HasExited.Should().BeFalse("it is not done yet");
            await Task.Delay(2, TestContext.Current.CancellationToken);
        }
        string pid = process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture);
        using (var kill = Process.Start("kill", ["-TERM", pid]))
        {
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        var result = SaeProcess.Finish(process);

        result.ExitCode.Should().Be(5, result.Error);
        result.Error.Should().Contain("interrupted");
        new FileInfo(partial).Length.Should().Be(MiB);
    }

    [Fact]
    public async Task The_output_is_the_path_alone_and_no_stream_shows_the_token()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("config.json", "{}");
        test.Server.Script(Route.Revision, exchange => exchange.StatusAsync(429, ("Retry-After", "0")));

        var done = SaeProcess.Finish(Start(test, "hf://org/name", "--verbose"));
        var missing = SaeProcess.Finish(Start(test, "hf://org/name/none.txt", "--verbose"));
        var malformed = SaeProcess.Finish(Start(test, "org/name"));

        done.ExitCode.Should().Be(0, done.Error);
        done.Output.TrimEnd().Should().Be(Path.Combine(test.RepositoryFolder, "snapshots", HubServer.Commit));
        done.Error.Should().Contain("429");
        missing.ExitCode.Should().Be(2);
        missing.Error.Should().Contain("no 'none.txt' in the repository");
        malformed.ExitCode.Should().Be(2);
        malformed.Error.Should().Contain("hf://ORG/NAME");
        foreach (var result in new[] { done, missing, malformed })
        {
            test.ShouldBeSound(result.Output + result.Error);
        }
        test.Server.Requests.Should().Contain(request => request.Authorization == $"Bearer {HubTest.TokenCanary}");
    }

    /// <summary>
    /// Sends up to a mark and falls silent. What the command has not yet written stays below 8 MiB: the network's own buffers,
    /// which some machines make large, are no part of the promise. A command that held back more would never be done.
    /// </summary>
    private static async Task UpTo(Exchange exchange, int mark, string partial, long[] ends, int kill)
    {
        var aborted = exchange.Context.RequestAborted;
        ends[kill] = exchange.From;
        exchange.StartBody();
        while (ends[kill] < mark)
        {
            while (ends[kill] - (File.Exists(partial) ? new FileInfo(partial).Length : 0) > 8 * MiB)
            {
                await Task.Delay(1, aborted);
            }
            await exchange.SendAsync((int)ends[kill], MiB / 4);
            ends[kill] += MiB / 4;
        }
        await Task.Delay(Timeout.Infinite, aborted);
    }

    private static long Start(string? range) =>
        range is null ? 0 : long.Parse(range["bytes=".Length..^1], System.Globalization.CultureInfo.InvariantCulture);

    private static Process Start(HubTest test, params string[] arguments) =>
        SaeProcess.Start(
            new Dictionary<string, string?>
            {
                ["HF_ENDPOINT"] = test.Server.Endpoint.AbsoluteUri,
                ["HF_HUB_CACHE"] = test.Cache,
                ["HF_TOKEN"] = HubTest.TokenCanary,
                ["HF_HUB_OFFLINE"] = null,
                ["NO_PROXY"] = "127.0.0.1",
            },
            ["fetch", .. arguments is [] ? ["hf://org/name/big.bin"] : arguments]
        );
}
