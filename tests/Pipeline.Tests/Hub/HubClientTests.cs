using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Pipeline.Shared;
using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

public sealed class HubClientTests
{
    private const string AtCommit = $"hf://org/name@{HubServer.Commit}";

    [Fact]
    public async Task A_model_is_fetched_in_the_layout_of_huggingface_hub()
    {
        await using var test = await HubTest.StartAsync();
        var weights = AddModel(test);

        var snapshot = await test.FetchAsync("hf://org/name");

        string folder = Path.Combine(test.RepositoryFolder, "snapshots", HubServer.Commit);
        snapshot.Path.Should().Be(folder);
        snapshot.Commit.Should().Be(HubServer.Commit);
        snapshot
            .Files.Select(file => Path.GetRelativePath(folder, file))
            .Should()
            .Equal("config.json", "model.safetensors", "tokenizer.json");
        File.ReadAllText(Path.Combine(test.RepositoryFolder, "refs", "main")).Should().Be(HubServer.Commit);
        new FileInfo(Path.Combine(folder, "model.safetensors"))
            .LinkTarget.Should()
            .Be(Path.Combine("..", "..", "blobs", weights.ETag));
        File.Exists(Path.Combine(test.Cache, ".locks", "models--org--name", weights.ETag + ".lock")).Should().BeTrue();
        test.Said.Should().Contain("fetch org/name").And.Contain("bytes");
        test.Server.Requests.Where(request => request.Route != Route.Cdn)
            .Should()
            .OnlyContain(request => request.Authorization == $"Bearer {HubTest.TokenCanary}");
        test.ShouldBeSound();
    }

    [Fact]
    public async Task A_second_fetch_asks_for_the_revision_alone_and_one_at_a_commit_for_nothing()
    {
        await using var test = await HubTest.StartAsync();
        AddModel(test);
        var first = await test.FetchAsync("hf://org/name");
        int asked = test.Server.Requests.Count;

        var second = await test.FetchAsync("hf://org/name");
        int again = test.Server.Requests.Count - asked;
        var third = await test.FetchAsync(AtCommit);
        var fourth = await test.FetchAsync("hf://org/name", offline: true);

        again.Should().Be(1);
        test.Server.Requests.Should().HaveCount(asked + 1);
        foreach (var snapshot in new[] { second, third, fourth })
        {
            snapshot.Should().BeEquivalentTo(first);
        }
    }

    [Theory]
    [InlineData("pytorch_model.bin")]
    [InlineData("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json")]
    public async Task A_model_older_than_safetensors_is_fetched_with_its_state_dict(params string[] weights)
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("config.json", "{}");
        test.Server.Add("tokenizer.json", "{}");
        test.Server.Add("training_args.bin", HubTest.Bytes(20));
        foreach (string name in weights)
        {
            test.Server.Add(
                name,
                name.EndsWith(".json", StringComparison.Ordinal)
                    ? Encoding.UTF8.GetBytes(
                        $$$"""{"weight_map": {"a": "{{{weights[0]}}}", "b": "{{{weights[1]}}}"}}"""
                    )
                    : HubTest.Bytes(30 + name.Length)
            );
        }

        var snapshot = await test.FetchAsync("hf://org/name");
        int asked = test.Server.Requests.Count;
        Directory.Delete(Path.Combine(test.RepositoryFolder, ".listings"), recursive: true); // as huggingface_hub leaves it

        string[] expected = [.. weights.Append("config.json").Append("tokenizer.json").Order(StringComparer.Ordinal)];
        snapshot.Files.Select(Path.GetFileName).Should().Equal(expected);
        (await test.FetchAsync(AtCommit, offline: true)).Path.Should().Be(snapshot.Path);
        test.Server.Requests.Should().HaveCount(asked);
        test.ShouldBeSound();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Files_that_huggingface_hub_put_there_are_used_without_network(bool offline)
    {
        await using var test = await HubTest.StartAsync();
        PutByLibrary(test, "config.json", "{}");
        PutByLibrary(test, "model.safetensors", "weights");
        PutByLibrary(test, "tokenizer.json", "{ }");
        PutByLibrary(test, "notes/a.txt", "a note");

        var model = await test.FetchAsync(AtCommit, offline);
        var note = await test.FetchAsync(AtCommit + "/notes/a.txt", offline);

        File.ReadAllText(Path.Combine(model.Path, "model.safetensors")).Should().Be("weights");
        File.ReadAllText(note.Path).Should().Be("a note");
        test.Server.Requests.Should().BeEmpty();
    }

    [Fact]
    public async Task A_blob_that_huggingface_hub_put_there_is_not_fetched_again()
    {
        await using var test = await HubTest.StartAsync();
        AddModel(test);
        var blob = test.Server.Add("model.safetensors", HubTest.Bytes(5000));
        string path = Path.Combine(test.RepositoryFolder, "blobs", blob.ETag);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        TempFolder.Overwrite(path, blob.Content);

        await test.FetchAsync("hf://org/name");

        test.Server.Count(Route.Cdn).Should().Be(0);
    }

    [Fact]
    public async Task A_model_of_which_huggingface_hub_has_only_a_part_is_completed()
    {
        await using var test = await HubTest.StartAsync();
        AddModel(test);
        PutByLibrary(test, "config.json", "{}");

        var snapshot = await test.FetchAsync(AtCommit);

        snapshot.Files.Should().HaveCount(3).And.OnlyContain(file => File.Exists(file));
    }

    [Fact]
    public async Task Offline_without_the_files_says_what_to_fetch()
    {
        await using var test = await HubTest.StartAsync();
        AddModel(test);
        var empty = () => test.FetchAsync("hf://org/name", offline: true);
        (await empty.Should().ThrowAsync<StageFailedException>()).WithMessage(
            "*'main'*HF_HUB_OFFLINE*sae fetch hf://org/name*"
        );

        await test.FetchAsync("hf://org/name");
        int asked = test.Server.Requests.Count;
        File.Delete(Path.Combine(test.RepositoryFolder, "snapshots", HubServer.Commit, "config.json"));

        (await empty.Should().ThrowAsync<StageFailedException>()).WithMessage("*config.json*sae fetch hf://org/name*");
        var other = () => test.FetchAsync("hf://org/name/other.bin", offline: true);
        (await other.Should().ThrowAsync<StageFailedException>()).WithMessage("*sae fetch hf://org/name/other.bin*");
        test.Server.Requests.Should().HaveCount(asked);
    }

    [Fact]
    public async Task Offline_files_that_may_not_be_all_are_taken_and_told()
    {
        await using var test = await HubTest.StartAsync();
        PutByLibrary(test, "en/train-00000-of-00002.txt", "one of two");

        var snapshot = await test.FetchAsync(AtCommit + "/en", offline: true);

        snapshot.Files.Should().ContainSingle();
        test.Said.Should().Contain("HF_HUB_OFFLINE").And.Contain("no listing");
    }

    [Fact]
    public async Task A_branch_without_network_is_told_how_to_use_what_the_cache_has()
    {
        await using var test = await HubTest.StartAsync();
        AddModel(test);
        await test.FetchAsync("hf://org/name");
        using var client = new HubClient(test.Options(), new NoNetwork(), test.Time);

        var fetch = () => client.FetchAsync(HubReference.Parse("hf://org/name"), test);

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage("*no way to*HF_HUB_OFFLINE=1*");
        (await test.FetchAsync("hf://org/name", offline: true)).Files.Should().HaveCount(3);
    }

    [Fact]
    public async Task A_listing_is_read_to_its_last_page()
    {
        await using var test = await HubTest.StartAsync();
        for (int i = 0; i < 23; i++)
        {
            test.Server.Add($"data/{i:00}.txt", $"text {i}");
        }
        test.Server.PageSize = 5;

        var snapshot = await test.FetchAsync("hf://org/name/data");

        snapshot.Files.Should().HaveCount(23);
        File.ReadAllText(snapshot.Files[22]).Should().Be("text 22");
    }

    [Theory]
    [InlineData(22, long.MaxValue, "*23 files and folders*at most 22 *hf://org/name/FOLDER*")]
    [InlineData(int.MaxValue, 2000, "*files and folders, 2??? bytes*2000 bytes*hf://org/name/FOLDER*")]
    public async Task A_listing_beyond_what_memory_holds_is_refused_before_anything_is_fetched(
        int most,
        long mostBytes,
        string says
    )
    {
        await using var test = await HubTest.StartAsync();
        for (int i = 0; i < 23; i++)
        {
            test.Server.Add($"data/{i:00}.txt", $"text {i}");
        }
        test.Server.PageSize = 5;

        var fetch = () =>
            test.FetchAsync(
                "hf://org/name/data",
                options: test.Options() with
                {
                    MostListed = most,
                    MostListedBytes = mostBytes,
                }
            );

        (await fetch.Should().ThrowAsync<ConfigurationException>()).WithMessage(says);
        test.Server.Bodies.Should().BeEmpty();
    }

    [Fact]
    public async Task A_listing_whose_pages_never_end_is_refused_after_as_many_entries_as_allowed()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Always(
            Route.Tree,
            async exchange =>
            {
                exchange.Context.Response.Headers.Link = $"<{exchange.Context.Request.Path}>; rel=\"next\"";
                await exchange.TextAsync("""[{"type": "directory", "path": "data"}]""");
            }
        );

        var fetch = () => test.FetchAsync("hf://org/name/data", options: test.Options() with { MostListed = 20 });

        (await fetch.Should().ThrowAsync<ConfigurationException>()).WithMessage("*21 files and folders*");
        test.Server.Count(Route.Tree).Should().Be(21);
    }

    [Fact]
    public async Task A_body_that_drips_is_given_up_and_taken_up_where_it_is()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("big.bin", HubTest.Bytes(500_000));
        test.Server.Script(Route.Cdn, exchange => exchange.DripAsync(100, test));

        await test.FetchAsync("hf://org/name/big.bin");

        var told = Regex.Match(test.Said, "only ([0-9]+) bytes came in .* fewer than 65536 in 60 s; trying again");
        told.Success.Should().BeTrue(test.Said);
        test.Server.Bodies.Select(request => request.Range).Should().Equal(null, $"bytes={told.Groups[1].Value}-");
        test.ShouldBeSound();
    }

    [Fact]
    public async Task A_path_can_be_a_file_a_folder_or_a_glob()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("README.md", "read me");
        test.Server.Add("en/a 1%.txt", "a");
        test.Server.Add("en/b.txt", "b");
        test.Server.Add("en/deep/c.txt", "c");
        test.Server.Add("en/d.json", "{}");

        var file = await test.FetchAsync("hf://org/name/en/a 1%.txt");
        var folder = await test.FetchAsync("hf://org/name/en");
        var glob = await test.FetchAsync("hf://org/name/en/*.txt");
        var single = await test.FetchAsync("hf://org/name/en/*.json");
        var none = () => test.FetchAsync("hf://org/name/en/*.parquet");

        File.ReadAllText(file.Path).Should().Be("a");
        folder.Files.Should().HaveCount(4);
        folder.Path.Should().EndWith("en");
        glob.Files.Should().HaveCount(2);
        glob.Path.Should().Be(folder.Path);
        File.ReadAllText(single.Path).Should().Be("{}");
        (await none.Should().ThrowAsync<ConfigurationException>()).WithMessage("*no 'en/*.parquet'*");
    }

    [Fact]
    public async Task A_dataset_has_addresses_and_folders_of_its_own()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("a.txt", "a");
        test.Server.Add("b/c.bin", HubTest.Bytes(10));

        var snapshot = await test.FetchAsync("hf://datasets/org/name@refs/pr/1");

        snapshot.Files.Should().HaveCount(2);
        File.Exists(Path.Combine(test.Cache, "datasets--org--name", "refs", "refs", "pr", "1")).Should().BeTrue();
        test.Server.Requests.Select(request => request.Target)
            .Should()
            .Contain("/api/datasets/org/name/revision/refs%2Fpr%2F1")
            .And.Contain($"/datasets/org/name/resolve/{HubServer.Commit}/b/c.bin");
    }

    [Fact]
    public async Task A_dataset_of_several_configurations_asks_for_one_before_anything_is_fetched()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.PageSize = 2;
        test.Server.Add("README.md", "read me");
        foreach (string language in new[] { "de", "en", "fr" })
        {
            test.Server.Add($"20231101.{language}/train-00000-of-00001.parquet", HubTest.Bytes(10 + language[0]));
        }

        var all = () => test.FetchAsync("hf://datasets/org/name");

        (await all.Should().ThrowAsync<ConfigurationException>()).WithMessage(
            "hf://datasets/org/name: found 3 folders: 20231101.de, 20231101.en, 20231101.fr, expected*Write hf://datasets/org/name/20231101.de, or*"
        );
        test.Server.Bodies.Should().BeEmpty();
        (await test.FetchAsync("hf://datasets/org/name/20231101.en")).Files.Should().ContainSingle();
        (await test.FetchAsync("hf://datasets/org/name/**")).Files.Should().HaveCount(4);
    }

    [Fact]
    public async Task Empty_files_and_files_of_equal_content_are_fetched_once()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("d/empty.txt", "");
        test.Server.Add("d/same-1.txt", "same");
        test.Server.Add("d/same-2.txt", "same");
        test.Server.Add("d/empty.bin", [], isLfs: true);

        var snapshot = await test.FetchAsync("hf://org/name/d");

        snapshot.Files.Select(File.ReadAllText).Should().Equal("", "", "same", "same");
        test.Server.Bodies.Should().ContainSingle();
        test.ShouldBeSound();
    }

    [Fact]
    public async Task A_partial_file_of_another_process_is_taken_up_where_it_ends()
    {
        await using var test = await HubTest.StartAsync();
        var file = test.Server.Add("big.bin", HubTest.Bytes(50_000));
        string partial = Path.Combine(test.RepositoryFolder, "blobs", file.ETag + ".incomplete");
        Directory.CreateDirectory(Path.GetDirectoryName(partial)!);
        TempFolder.Overwrite(partial, file.Content.AsSpan(0, 40_000));

        await test.FetchAsync("hf://org/name/big.bin");

        test.Server.Bodies.Should().ContainSingle().Which.Range.Should().Be("bytes=40000-");
        test.Server.BodyBytes.Should().Be(10_000);
        File.Exists(partial).Should().BeFalse();
        test.ShouldBeSound();
    }

    [Theory]
    [InlineData(40_000)]
    [InlineData(50_000)]
    [InlineData(60_000)]
    public async Task A_damaged_partial_file_costs_one_fetch_from_the_start(int length)
    {
        await using var test = await HubTest.StartAsync();
        var file = test.Server.Add("big.bin", HubTest.Bytes(50_000));
        string partial = Path.Combine(test.RepositoryFolder, "blobs", file.ETag + ".incomplete");
        Directory.CreateDirectory(Path.GetDirectoryName(partial)!);
        TempFolder.Overwrite(partial, HubTest.Bytes(length, seed: 9));

        var snapshot = await test.FetchAsync("hf://org/name/big.bin");

        File.ReadAllBytes(snapshot.Path).Should().Equal(file.Content);
        test.Server.Bodies.Count().Should().BeLessThanOrEqualTo(2);
        test.ShouldBeSound();
    }

    [Fact]
    public async Task A_full_disk_is_told_with_the_bytes_needed()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "Linux' /dev/full plays the full disk.");
        await using var test = await HubTest.StartAsync();
        var file = test.Server.Add("big.bin", HubTest.Bytes(50_000));
        string blobs = Path.Combine(test.RepositoryFolder, "blobs");
        Directory.CreateDirectory(blobs);
        File.CreateSymbolicLink(Path.Combine(blobs, file.ETag + ".incomplete"), "/dev/full");

        var fetch = () => test.FetchAsync("hf://org/name/big.bin");

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage("*no space*50000 bytes*HF_HUB_CACHE*");
        test.Server.Bodies.Should().ContainSingle();
        File.Exists(Path.Combine(blobs, file.ETag)).Should().BeFalse();
    }

    [Fact]
    public async Task A_cache_that_cannot_be_written_is_told()
    {
        await using var test = await HubTest.StartAsync();
        test.Server.Add("a.txt", "a");
        TempFolder.Overwrite(test.Cache, "a file where the folder should be"u8);

        var fetch = () => test.FetchAsync("hf://org/name/a.txt");

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage("*HF_HUB_CACHE*");
    }

    [Fact]
    public async Task Eight_clients_fetching_the_same_file_at_once_download_it_once()
    {
        await using var test = await HubTest.StartAsync();
        byte[] content = HubTest.Bytes(3_000_000);
        test.Server.Add("big.bin", content);

        // The system's clock: those that wait for the lock should not spin.
        var snapshots = await Task.WhenAll(
            Enumerable
                .Range(0, 8)
                .Select(_ => Task.Run(() => test.FetchAsync("hf://org/name/big.bin", time: TimeProvider.System)))
        );

        test.Server.BodyBytes.Should().Be(content.Length);
        snapshots.Select(snapshot => snapshot.Path).Distinct().Should().ContainSingle();
        File.ReadAllBytes(snapshots[0].Path).AsSpan().SequenceEqual(content).Should().BeTrue();
        test.ShouldBeSound();
    }

    [Fact]
    public async Task A_hub_that_is_not_there_ends_in_a_typed_error()
    {
        await using var test = await HubTest.StartAsync();
        using var bound = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        bound.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0)); // never listens
        var options = test.Options() with { Endpoint = new Uri($"http://{bound.LocalEndPoint}") };
        using var client = new HubClient(options, new SocketsHttpHandler { UseProxy = false }, test.Time);

        var fetch = () => client.FetchAsync(HubReference.Parse("hf://org/name"), test);

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage("*connection failed*5 tries*");
        test.Time.Waits.Should().HaveCount(4).And.BeInAscendingOrder();
        test.Time.Waits[0].Should().BeGreaterThanOrEqualTo(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public async Task A_machine_without_network_is_told_in_seconds_what_to_fetch_and_how_to_do_without()
    {
        await using var test = await HubTest.StartAsync();
        using var client = new HubClient(test.Options(), new NoNetwork(), test.Time);

        var fetch = () => client.FetchAsync(HubReference.Parse(AtCommit), test);

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage(
            $"{AtCommit}: found no way to*sae fetch*--set model=FOLDER*--set text=PATH*HF_ENDPOINT*"
        );
        test.Time.Waits.Should().ContainSingle().Which.Should().BeLessThan(TimeSpan.FromSeconds(3));
    }

    [Fact]
    public async Task A_network_that_swallows_what_is_sent_is_no_network_and_not_an_interruption()
    {
        await using var test = await HubTest.StartAsync();
        using var handler = new SocketsHttpHandler
        {
            UseProxy = false,
            ConnectTimeout = TimeSpan.FromMilliseconds(20),
            ConnectCallback = async (_, cancel) =>
            {
                await Task.Delay(Timeout.Infinite, cancel);
                throw new System.Diagnostics.UnreachableException();
            },
        };
        using var client = new HubClient(test.Options(), handler, test.Time);

        var fetch = () => client.FetchAsync(HubReference.Parse(AtCommit), test);

        (await fetch.Should().ThrowAsync<StageFailedException>()).WithMessage(
            $"{AtCommit}: found no way to*sae fetch*--set model=FOLDER*HF_ENDPOINT*"
        );
        test.Time.Waits.Should().ContainSingle();
    }

    [Fact]
    public async Task A_connection_that_cannot_be_made_secure_is_told_with_the_reason()
    {
        await using var test = await HubTest.StartAsync();
        var secure = new UriBuilder(test.Server.Endpoint) { Scheme = "https" }.Uri; // the server speaks plain HTTP
        using var client = new HubClient(
            test.Options() with
            {
                Endpoint = secure,
            },
            new SocketsHttpHandler { UseProxy = false },
            test.Time
        );

        var fetch = () => client.FetchAsync(HubReference.Parse(AtCommit), test);

        var error = (await fetch.Should().ThrowAsync<StageFailedException>()).Which;
        error.Message.Should().Contain("no secure connection (").And.NotContain("see inner exception");
        test.ShouldBeSound(error.ToString());
    }

    [Fact]
    public async Task Cancelling_keeps_what_arrived()
    {
        await using var test = await HubTest.StartAsync();
        var file = test.Server.Add("big.bin", HubTest.Bytes(500_000));
        using var cancel = new CancellationTokenSource();
        test.Server.Script(
            Route.Cdn,
            async exchange =>
            {
                await exchange.BodyAsync(take: 300_000, declareAll: true);
                await cancel.CancelAsync();
                await Task.Delay(Timeout.Infinite, exchange.Context.RequestAborted);
            }
        );
        using var client = new HubClient(
            test.Options(),
            new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false },
            test.Time
        );

        var fetch = () => client.FetchAsync(HubReference.Parse("hf://org/name/big.bin"), test, cancel.Token);

        await fetch.Should().ThrowAsync<OperationCanceledException>();
        File.Exists(Path.Combine(test.RepositoryFolder, "blobs", file.ETag + ".incomplete")).Should().BeTrue();
        test.ShouldBeSound();
    }

    [Fact]
    public void Hashing_a_partial_file_ends_when_cancelled_and_leaves_it_to_the_next()
    {
        using var folder = new TempFolder();
        byte[] content = HubTest.Bytes(3_000_000);
        var file = new HubFile("big.bin", content.Length, new Offered("big.bin", content, IsLfs: true).ETag);
        TempFolder.Overwrite(folder["blob.incomplete"], content.AsSpan(0, 2_000_000));

        var takeUp = () => new PartialBlob(folder["blob"], file, new CancellationToken(canceled: true)).Dispose();

        takeUp.Should().Throw<OperationCanceledException>();
        using var next = new PartialBlob(folder["blob"], file, CancellationToken.None);
        next.Length.Should().Be(2_000_000);
        next.Append(content.AsSpan(2_000_000));
        next.TryPublish().Should().BeTrue();
    }

    [Fact]
    public void Another_path_than_an_hf_name_stays_as_it_is() =>
        HubFolder.Resolve("data/text", null!, CancellationToken.None).Should().Be("data/text");

    private static Offered AddModel(HubTest test)
    {
        test.Server.Add("README.md", "a model");
        test.Server.Add("config.json", "{}");
        test.Server.Add("tokenizer.json", "{ }");
        test.Server.Add("pytorch_model.bin", HubTest.Bytes(100));
        return test.Server.Add("model.safetensors", HubTest.Bytes(5000));
    }

    private static void PutByLibrary(HubTest test, string path, string text)
    {
        var file = new Offered(path, Encoding.UTF8.GetBytes(text), IsLfs: false);
        string blob = Path.Combine(test.RepositoryFolder, "blobs", file.ETag);
        string link = Path.Combine([test.RepositoryFolder, "snapshots", HubServer.Commit, .. path.Split('/')]);
        Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
        Directory.CreateDirectory(Path.GetDirectoryName(link)!);
        TempFolder.Overwrite(blob, file.Content);
        File.CreateSymbolicLink(link, Path.GetRelativePath(Path.GetDirectoryName(link)!, blob));
    }

    private sealed class NoNetwork : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(
            HttpRequestMessage request,
            CancellationToken cancellationToken
        ) => throw new HttpRequestException(HttpRequestError.NameResolutionError, "Name or service not known");
    }
}
