using Pipeline.Shared;
using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

/// <summary>Several files of one repository at once. The server decides by what has happened who gets on, never by time.</summary>
public sealed class ParallelFetchTests
{
    private const int Size = 500_000;
    private const int Part = 300_000;

    /// <summary>Ends a test whose client does what it must not, and never one whose client is right.</summary>
    private static readonly TimeSpan Hopeless = TimeSpan.FromMinutes(2);

    [Fact]
    public async Task Files_are_fetched_together()
    {
        const int files = 4;
        await using var test = await HubTest.StartAsync();
        AddFiles(test, files);
        var everyone = new TaskCompletionSource();
        test.Server.Always(
            Route.Cdn,
            async exchange =>
            {
                if (test.Server.Count(Route.Cdn) == files)
                {
                    everyone.TrySetResult();
                }
                await everyone.Task.WaitAsync(exchange.Context.RequestAborted);
                await exchange.BodyAsync();
            }
        );

        var snapshot = await FetchAsync(test, parallel: files);

        snapshot.Files.Should().HaveCount(files);
        test.Server.BodyBytes.Should().Be(files * Size);
        test.ShouldBeSound();
    }

    [Fact]
    public async Task Never_more_files_than_allowed_are_fetched_together()
    {
        const int files = 9;
        const int allowed = 3;
        await using var test = await HubTest.StartAsync();
        AddFiles(test, files);
        var gate = new Lock();
        var full = new TaskCompletionSource();
        int open = 0;
        int most = 0;
        test.Server.Always(
            Route.Cdn,
            async exchange =>
            {
                lock (gate)
                {
                    most = Math.Max(most, ++open);
                    if (open == allowed)
                    {
                        full.TrySetResult();
                    }
                }
                await full.Task.WaitAsync(exchange.Context.RequestAborted);
                // Time for one too many to come; a client that is right needs none of it.
                await Task.Delay(TimeSpan.FromMilliseconds(100), exchange.Context.RequestAborted);
                lock (gate)
                {
                    open--; // before the answer is on its way: the client cannot ask for the next file earlier
                }
                await exchange.BodyAsync();
            }
        );

        await FetchAsync(test, allowed);

        most.Should().Be(allowed);
        test.ShouldBeSound();
    }

    [Fact]
    public async Task One_file_that_fails_is_named_and_what_the_others_have_is_kept()
    {
        await using var test = await HubTest.StartAsync();
        var (whole, broken, begun) = (AddFile(test, 1), AddFile(test, 2), AddFile(test, 3));
        test.Server.Always(
            Route.Cdn,
            exchange =>
                exchange.File == broken ? FailAsync(exchange)
                : exchange.File == begun ? PartAsync(exchange)
                : exchange.BodyAsync()
        );
        async Task FailAsync(Exchange exchange)
        {
            await UntilAsync(() => File.Exists(Blob(test, whole)) && Arrived(test, begun) == Part, exchange);
            await exchange.BodyAsync(HubTest.Bytes(Size, seed: 9));
        }

        var fetch = () => FetchAsync(test);

        var error = (await fetch.Should().ThrowAsync<CorruptArtifactException>()).Which;
        error.Message.Should().Contain(broken.Path).And.Contain("another hash");
        File.Exists(Blob(test, whole)).Should().BeTrue();
        Arrived(test, begun).Should().Be(Part);
        test.ShouldBeSound(error.ToString());

        int before = test.Server.Requests.Count;
        test.Server.Always(Route.Cdn, exchange => exchange.BodyAsync());
        await FetchAsync(test);

        var again = test.Server.Requests.Skip(before).Where(request => request.Route == Route.Cdn).ToList();
        again
            .Select(request => (Content(request), request.Range))
            .Should()
            .BeEquivalentTo([(broken.ETag, null), (begun.ETag, (string?)$"bytes={Part}-")]);
        test.ShouldBeSound();
    }

    [Fact]
    public async Task Cancelling_stops_every_file_and_each_is_taken_up_where_it_was()
    {
        await using var test = await HubTest.StartAsync();
        var files = AddFiles(test, 3);
        using var cancel = new CancellationTokenSource();
        int stopped = 0;
        test.Server.Always(
            Route.Cdn,
            async exchange =>
            {
                try
                {
                    await exchange.BodyAsync(take: Part, declareAll: true);
                    await UntilAsync(() => files.All(file => Arrived(test, file) == Part), exchange);
                    await cancel.CancelAsync();
                    await Task.Delay(Timeout.Infinite, exchange.Context.RequestAborted);
                }
                finally
                {
                    Interlocked.Increment(ref stopped);
                }
            }
        );

        var fetch = () => FetchAsync(test, cancel: cancel);

        await fetch.Should().ThrowAsync<OperationCanceledException>();
        files.Should().OnlyContain(file => Arrived(test, file) == Part);
        test.ShouldBeSound();
        while (Volatile.Read(ref stopped) < files.Count) // every connection was given up, not only the one that noticed first
        {
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }

        int before = test.Server.Requests.Count;
        test.Server.Always(Route.Cdn, exchange => exchange.BodyAsync());
        await FetchAsync(test);

        var again = test.Server.Requests.Skip(before).Where(request => request.Route == Route.Cdn).ToList();
        again.Select(Content).Should().BeEquivalentTo(files.Select(file => file.ETag));
        again.Should().OnlyContain(request => request.Range == $"bytes={Part}-");
        test.ShouldBeSound();
    }

    [Fact]
    public async Task Progress_adds_up_over_files_whether_begun_before_started_over_or_of_equal_content()
    {
        await using var test = await HubTest.StartAsync();
        const int files = 4;
        const int big = 3 << 20;
        var begun = test.Server.Add("0.bin", HubTest.Bytes(big, seed: 20));
        for (int i = 1; i < files - 1; i++)
        {
            test.Server.Add($"{i}.bin", HubTest.Bytes(big, seed: (ulong)i));
        }
        test.Server.Add($"{files - 1}.bin", HubTest.Bytes(big, seed: 1)); // the content of 1.bin
        Directory.CreateDirectory(Path.GetDirectoryName(Blob(test, begun))!);
        TempFolder.Overwrite(Blob(test, begun) + ".incomplete", begun.Content.AsSpan(0, Part));
        test.Server.Script(Route.Cdn, exchange => exchange.BodyAsync([.. exchange.File!.Content, 1])); // longer than listed
        var sink = new Sink();

        await FetchAsync(test, sink: sink);

        sink.Overlaps.Should().Be(0);
        sink.Updates.Should()
            .OnlyContain(update => update.Total == files * big && update.Done >= 0 && update.Done <= update.Total);
        sink.Updates.Count(update => update.Done == update.Total).Should().Be(1);
        sink.Updates[^1].Done.Should().Be(files * big);
        test.ShouldBeSound();
    }

    [Fact]
    public async Task Sizes_that_add_up_to_more_than_a_number_holds_end_in_a_typed_error()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Listing =
        [
            .. AddFiles(test, 2)
                .Select(file =>
                {
                    var entry = HubServer.Entry(file);
                    entry["size"] = long.MaxValue;
                    return entry;
                }),
        ];

        var fetch = () => FetchAsync(test);

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage("*.bin*contradicts itself: size*");
        test.ShouldBeSound();
    }

    private static Offered AddFile(HubTest test, int number) =>
        test.Server.Add($"{number}.bin", HubTest.Bytes(Size, (ulong)number));

    private static List<Offered> AddFiles(HubTest test, int count) =>
        [.. Enumerable.Range(1, count).Select(number => AddFile(test, number))];

    private static async Task<HubSnapshot> FetchAsync(
        HubTest test,
        int parallel = 4,
        IProgressSink? sink = null,
        CancellationTokenSource? cancel = null
    )
    {
        using var client = new HubClient(
            test.Options() with
            {
                ParallelFiles = parallel,
            },
            new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false },
            test.Time
        );
        using var either = CancellationTokenSource.CreateLinkedTokenSource(
            cancel?.Token ?? CancellationToken.None,
            TestContext.Current.CancellationToken
        );
        return await client
            .FetchAsync(HubReference.Parse("hf://org/name/*.bin"), sink ?? test, either.Token)
            .WaitAsync(Hopeless, TestContext.Current.CancellationToken);
    }

    /// <summary>Sends a part and is silent until the client hangs up.</summary>
    private static async Task PartAsync(Exchange exchange)
    {
        await exchange.BodyAsync(take: Part, declareAll: true);
        await Task.Delay(Timeout.Infinite, exchange.Context.RequestAborted);
    }

    private static async Task UntilAsync(Func<bool> happened, Exchange exchange)
    {
        while (!happened())
        {
            await Task.Delay(1, exchange.Context.RequestAborted);
        }
    }

    private static string Blob(HubTest test, Offered file) => Path.Combine(test.RepositoryFolder, "blobs", file.ETag);

    private static long Arrived(HubTest test, Offered file) =>
        new FileInfo(Blob(test, file) + ".incomplete") is { Exists: true } partial ? partial.Length : 0;

    /// <summary>The content that a request to the CDN asks for.</summary>
    private static string Content(HubRequest request) => request.Target.Split('?')[0].TrimStart('/');

    /// <summary>Remembers what it was told, and whether two threads told it at once.</summary>
    private sealed class Sink : IProgressSink
    {
        private int inside;

        public List<(double Done, double Total)> Updates { get; } = [];

        public int Overlaps { get; private set; }

        public void Update(string task, double done, double total, string unit, string detail = "") =>
            Alone(() => Updates.Add((done, total)));

        public void Say(string line) => Alone(() => { });

        private void Alone(Action action)
        {
            if (Interlocked.Increment(ref inside) > 1)
            {
                Overlaps++;
            }
            action();
            Interlocked.Decrement(ref inside);
        }
    }
}
