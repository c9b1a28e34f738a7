using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;

namespace Pipeline.Tests.Hub;

/// <summary>Whatever the network does, a fetch ends with the right file or a typed error, in a bounded number of tries.</summary>
public sealed class HubFaultTests
{
    private const int MiB = 1 << 20;
    private const int Size = 3 * MiB + 77;
    private const int MostTries = 5;
    private static readonly byte[] Content = HubTest.Bytes(Size);
    private static readonly byte[] Wrong = HubTest.Bytes(Size, seed: 2);

    /// <summary>What networks with a sign-in page and proxies answer with status 200.</summary>
    private static readonly byte[] Page = [.. "<html>Sign in...</html>\n"u8];

    /// <param name="Script">Sets the faults up.</param>
    /// <param name="Error">The kind of error it ends with; null for the right file.</param>
    /// <param name="Says">A part of the error.</param>
    /// <param name="Bodies">Requests for content it may take.</param>
    /// <param name="Waits">Seconds that it must have waited once.</param>
    /// <param name="IsLfs">The content lies at the CDN and is named by its SHA-256; otherwise on the hub, by git's hash.</param>
    private sealed record Case(
        Action<HubTest> Script,
        Type? Error = null,
        string Says = "*",
        int Bodies = 2,
        double? Waits = null,
        bool IsLfs = true
    );

    private static readonly Dictionary<string, Case> Cases = new()
    {
        ["body drops before the first byte"] = new(t => t.Server.Script(Route.Cdn, e => e.DropAsync(0))),
        ["body drops after one byte"] = new(t => t.Server.Script(Route.Cdn, e => e.DropAsync(1))),
        ["body drops in the middle"] = new(t => t.Server.Script(Route.Cdn, e => e.DropAsync(Size / 2))),
        ["body drops before the last byte"] = new(t => t.Server.Script(Route.Cdn, e => e.DropAsync(Size - 1))),
        ["body drops four times"] = new(
            t => t.Server.Script(Route.Cdn, [.. Enumerable.Repeat((Exchange e) => e.DropAsync(9), 4)]),
            Bodies: 5
        ),
        ["body always drops at the start"] = new(
            t => t.Server.Always(Route.Cdn, e => e.DropAsync(0)),
            typeof(StageFailedException),
            "*big.bin*5 tries in a row without progress*Run again*",
            MostTries
        ),
        ["body always drops after a few bytes more"] = new(
            t => t.Server.Always(Route.Cdn, e => e.BodyAsync(take: 1000)),
            typeof(StageFailedException),
            "*ended after 5000 of*5 tries in a row*",
            MostTries
        ),
        ["short bodies, three tries to each MiB"] = new(
            // 9 failures, but never 5 without a new MiB.
            t => t.Server.Script(Route.Cdn, [.. Enumerable.Repeat((Exchange e) => e.BodyAsync(take: MiB / 3 + 9), 9)]),
            Bodies: 10
        ),
        ["connection drops at the listing"] = new(t => t.Server.Script(Route.Tree, Abort)),
        ["connection drops at HEAD"] = new(t => t.Server.Script(Route.Head, Abort)),
        ["429 with seconds"] = new(
            t => t.Server.Script(Route.Cdn, e => e.StatusAsync(429, ("Retry-After", "7"))),
            Waits: 7
        ),
        ["429 with a date"] = new(
            t => t.Server.Script(Route.Head, e => e.StatusAsync(429, ("Retry-After", Date(t.Time, 41)))),
            Waits: 41
        ),
        ["429 with a date gone by"] = new(t =>
            t.Server.Script(Route.Head, e => e.StatusAsync(429, ("Retry-After", Date(t.Time, -41))))
        ),
        ["429 with RateLimit"] = new(
            t =>
                t.Server.Script(
                    Route.Tree,
                    e => e.StatusAsync(429, ("RateLimit", "\"api\";r=0;t=55"), ("Retry-After", "3"))
                ),
            Waits: 55
        ),
        ["429 that asks for a day"] = new(
            t => t.Server.Always(Route.Revision, e => e.StatusAsync(429, ("Retry-After", "86400"))),
            typeof(StageFailedException),
            "*429*asks to wait 1440 min*",
            0
        ),
        ["503 with seconds"] = new(
            t => t.Server.Script(Route.Revision, e => e.StatusAsync(503, ("Retry-After", "12"))),
            Waits: 12
        ),
        ["burst of 5xx at the CDN"] = new(
            t =>
                t.Server.Script(
                    Route.Cdn,
                    [.. new[] { 500, 502, 503, 504 }.Select(s => (Func<Exchange, Task>)(e => e.StatusAsync(s)))]
                ),
            Bodies: 5
        ),
        ["burst of 5xx at every route"] = new(
            t =>
            {
                foreach (var route in Enum.GetValues<Route>().Where(route => route != Route.Get))
                {
                    t.Server.Script(route, e => e.StatusAsync(500), e => e.StatusAsync(502));
                }
            },
            Bodies: 3
        ),
        ["5xx for ever"] = new(
            t => t.Server.Always(Route.Head, e => e.StatusAsync(500)),
            typeof(StageFailedException),
            "*answered 500*5 tries*",
            0
        ),
        ["408"] = new(t => t.Server.Script(Route.Cdn, e => e.StatusAsync(408))),
        ["Content-Range from another place"] = new(
            t =>
                t.Server.Script(
                    Route.Cdn,
                    e => e.BodyAsync(take: MiB),
                    e => e.BodyAsync(contentRange: $"bytes {MiB - 1}-{Size - 1}/{Size}")
                ),
            Bodies: 3
        ),
        ["Content-Range of another file"] = new(
            t =>
                t.Server.Script(
                    Route.Cdn,
                    e => e.BodyAsync(take: MiB),
                    e => e.BodyAsync(contentRange: $"bytes {MiB}-{Size}/{Size + 1}")
                ),
            Bodies: 3
        ),
        ["206 without Content-Range"] = new(
            t => t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB), e => e.BodyAsync(contentRange: "")),
            Bodies: 3
        ),
        ["wrong Content-Range for ever"] = new(
            t =>
            {
                t.Server.Always(Route.Cdn, e => e.BodyAsync(contentRange: "bytes 5-6/7"));
                t.Server.Script(Route.Cdn, e => e.BodyAsync(take: 100));
            },
            typeof(StageFailedException),
            "*Content-Range*",
            MostTries
        ),
        ["200 for a Range"] = new(t =>
            t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB), e => e.BodyAsync(ignoreRange: true))
        ),
        ["200 for every Range, always short"] = new(
            t => t.Server.Always(Route.Cdn, e => e.BodyAsync(take: 2 * MiB, ignoreRange: true)),
            typeof(StageFailedException),
            "*ended after*",
            MostTries
        ),
        ["416 for a Range"] = new(
            t => t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB), e => e.StatusAsync(416)),
            Bodies: 3
        ),
        ["ETag changes in the middle, once"] = new(t =>
        {
            t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB));
            t.Server.Script(Route.Head, Redirect, e => Described(e, etag: new string('b', 64)));
        }),
        ["ETag changes in the middle, for good"] = new(
            t =>
            {
                t.Server.Script(Route.Cdn, e => e.BodyAsync(take: 1000));
                t.Server.Always(Route.Head, e => Described(e, etag: new string('b', 64)));
                t.Server.Script(Route.Head, Redirect);
            },
            typeof(StageFailedException),
            "*contradicts itself: ETag 'bbbb*",
            1
        ),
        ["ETag of the body changes in the middle"] = new(
            t =>
                t.Server.Script(
                    Route.Cdn,
                    e => e.BodyAsync(take: MiB),
                    async e =>
                    {
                        e.Context.Response.Headers.ETag = $"\"{new string('b', 64)}\"";
                        await e.BodyAsync(Wrong);
                    }
                ),
            Bodies: 3
        ),
        ["HEAD with another size"] = new(t => t.Server.Script(Route.Head, e => Described(e, size: Size + 1))),
        ["HEAD of another commit"] = new(
            t => t.Server.Always(Route.Head, e => Described(e, commit: new string('c', 40))),
            typeof(StageFailedException),
            "*commit 'cccc*",
            0
        ),
        ["HEAD without size, commit and ETag"] = new(t =>
            t.Server.Always(Route.Head, e => e.StatusAsync(302, ("Location", e.Signed())))
        ),
        ["signed address expires in the middle"] = new(
            t => t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB), e => e.StatusAsync(403)),
            Bodies: 3
        ),
        ["signed address always expired"] = new(
            t => t.Server.Always(Route.Cdn, e => e.StatusAsync(403)),
            typeof(StageFailedException),
            "*403 to a signed address*",
            MostTries
        ),
        ["body stalls"] = new(t => t.Server.Script(Route.Cdn, e => e.StallAsync(MiB, t.Time))),
        ["body stalls for ever"] = new(
            t => t.Server.Always(Route.Cdn, e => e.StallAsync(0, t.Time)),
            typeof(StageFailedException),
            "*nothing came for 30 s*",
            MostTries
        ),
        ["body drips"] = new(t => t.Server.Script(Route.Cdn, e => e.DripAsync(100, t))),
        ["body drips for ever"] = new(
            t => t.Server.Always(Route.Cdn, e => e.DripAsync(1, t)),
            typeof(StageFailedException),
            "*fewer than 65536 in 60 s; 5 tries*",
            MostTries
        ),
        ["listing drips for ever"] = new(
            t => t.Server.Always(Route.Tree, e => e.DripBlanksAsync(t)),
            typeof(StageFailedException),
            "*fewer than 65536 in 60 s; 5 tries*",
            0
        ),
        ["HEAD stalls"] = new(t => t.Server.Script(Route.Head, e => e.SilenceAsync(t.Time))),
        ["listing stalls"] = new(t => t.Server.Script(Route.Tree, e => e.SilenceAsync(t.Time))),
        ["short body"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync(Content[..^5]))),
        ["short body without a length"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync(take: Size - 5))),
        ["a page in place of the file"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync(Page))),
        ["a page in place of the rest"] = new(
            t => t.Server.Script(Route.Cdn, e => e.BodyAsync(take: MiB), e => e.BodyAsync(Page, ignoreRange: true)),
            Bodies: 3
        ),
        ["a web page without a length in place of the rest"] = new(
            t =>
                t.Server.Script(
                    Route.Cdn,
                    e => e.BodyAsync(take: MiB),
                    e =>
                    {
                        e.Context.Response.ContentType = "text/html; charset=utf-8";
                        return e.BodyAsync(Page, ignoreRange: true, chunked: true);
                    }
                ),
            Bodies: 3
        ),
        ["a page in place of the file, for ever"] = new(
            t => t.Server.Always(Route.Cdn, e => e.BodyAsync(Page)),
            typeof(StageFailedException),
            "*a body of 24 bytes where*5 tries*",
            MostTries
        ),
        ["long body"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync([.. Content, 1, 2, 3]))),
        ["long body, for ever"] = new(
            t => t.Server.Always(Route.Cdn, e => e.BodyAsync([.. Content, 1, 2, 3], chunked: true)),
            typeof(StageFailedException),
            "*longer than*",
            // A new MiB is seen on the first try only, and it comes before the count starts.
            MostTries
        ),
        ["wrong content, once"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync(Wrong))),
        ["wrong content after a resume, once"] = new(
            t => t.Server.Script(Route.Cdn, e => e.BodyAsync(Wrong, take: MiB)),
            Bodies: 3
        ),
        ["wrong content, always"] = new(
            t => t.Server.Always(Route.Cdn, e => e.BodyAsync(Wrong)),
            typeof(CorruptArtifactException),
            "*big.bin*another hash*SHA-256*"
        ),
        ["plain file: body drops"] = new(t => t.Server.Script(Route.Get, e => e.DropAsync(MiB)), IsLfs: false),
        ["plain file: ETag changes in the middle"] = new(
            t =>
                t.Server.Script(
                    Route.Get,
                    e => e.BodyAsync(take: MiB),
                    async e =>
                    {
                        e.Describe(etag: new string('b', 40));
                        await e.BodyAsync(Wrong);
                    }
                ),
            Bodies: 3,
            IsLfs: false
        ),
        ["plain file: wrong content, always"] = new(
            t => t.Server.Always(Route.Get, e => e.BodyAsync(Wrong)),
            typeof(CorruptArtifactException),
            "*big.bin*another hash*git hash*",
            IsLfs: false
        ),
        ["plain file: 403 without a token's right"] = Refused(Route.Get, 403, "", "*gated*") with
        {
            Bodies = 1,
            IsLfs = false,
        },
        ["a compressed body"] = new(t => t.Server.Script(Route.Cdn, e => e.BodyAsync(encoding: "gzip"))),
        ["a renamed repository"] = new(t =>
            t.Server.Script(
                Route.Head,
                e => e.StatusAsync(307, ("Location", $"/org/other/resolve/{HubServer.Commit}/big.bin"))
            )
        ),
        ["a CDN that redirects to another"] = new(t =>
            t.Server.Script(
                Route.Cdn,
                e => e.StatusAsync(302, ("Location", $"//localhost:{t.Server.Cdn.Port}/{e.File!.ETag}"))
            )
        ),
        ["redirects in a circle"] = new(
            t => t.Server.Always(Route.Cdn, e => e.StatusAsync(302, ("Location", e.Signed()))),
            typeof(StageFailedException),
            "*more than 5 redirects*",
            6 * MostTries
        ),
        ["a redirect to a file of this machine"] = new(
            t => t.Server.Always(Route.Cdn, e => e.StatusAsync(302, ("Location", "file:///etc/passwd"))),
            typeof(StageFailedException),
            "*no usable address*",
            MostTries
        ),
        ["a cut listing"] = new(t => t.Server.Script(Route.Tree, e => e.TextAsync("""[{"type":"fi"""))),
        ["a listing of another form"] = new(
            t => t.Server.Always(Route.Tree, e => e.TextAsync("""{"error":1}""")),
            typeof(StageFailedException),
            "*unknown form*",
            0
        ),
        ["a commit that is none"] = new(
            t => t.Server.Always(Route.Revision, e => e.TextAsync("""{"sha":"../../x"}""")),
            typeof(StageFailedException),
            "*commit hash*",
            0
        ),
        ["a listing that goes on elsewhere"] = new(
            t =>
                t.Server.Always(
                    Route.Tree,
                    async e =>
                    {
                        e.Context.Response.Headers.Link = $"<{t.Server.Cdn}next>; rel=\"next\"";
                        await e.TextAsync("[]");
                    }
                ),
            typeof(StageFailedException),
            "*another server*",
            0
        ),
        ["a listing that leaves its folder"] = Listed("../../../evil"),
        ["a listing with a hidden .."] = Listed("a/../../evil"),
        ["a listing with an absolute name"] = Listed("/tmp/evil"),
        ["a listing with a drive"] = Listed("C:/evil"),
        ["a listing with a UNC name"] = Listed(@"\\host\evil"),
        ["a listing with a line break"] = Listed("evil\nname"),
        ["a listing with a path for a hash"] = Listed("big.bin", "../../evil", "*hash*"),
        ["401"] = Refused(Route.Tree, 401, "", "*token that the hub refuses*HF_TOKEN*"),
        ["403 of a gated repository"] = Refused(Route.Head, 403, "GatedRepo", "*gated*Accept its conditions*"),
        ["404 of a repository"] = Refused(Route.Revision, 404, "RepoNotFound", "*no such model*hf://datasets/*"),
        ["404 of a revision"] = Refused(Route.Revision, 404, "RevisionNotFound", "*no revision 'main'*"),
        ["404 of a folder"] = Refused(Route.Tree, 404, "EntryNotFound", "*Look at*"),
        ["a file that is not listed"] = new(
            t => t.Server.Listing = [],
            typeof(ConfigurationException),
            "*no 'big.bin' in the repository*",
            0
        ),
    };

    public static TheoryData<string> Names => new(Cases.Keys);

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_fault_ends_in_the_right_file_or_a_typed_error(string name)
    {
        var (script, error, says, bodies, waits, isLfs) = Cases[name];
        await using var test = await HubTest.StartAsync();
        test.Server.Add("big.bin", Content, isLfs);
        script(test);

        Pipeline.Shared.Hub.HubSnapshot? snapshot = null;
        var fetch = async () => snapshot = await test.FetchAsync("hf://org/name/big.bin");

        if (error is null)
        {
            await fetch();
            Tell(test, name, "the right file");
            (await File.ReadAllBytesAsync(snapshot!.Path, TestContext.Current.CancellationToken))
                .AsSpan()
                .SequenceEqual(Content)
                .Should()
                .BeTrue();
            Directory.EnumerateFiles(Path.Combine(test.RepositoryFolder, "blobs")).Should().ContainSingle();
            test.ShouldBeSound();
        }
        else
        {
            var thrown = (await fetch.Should().ThrowAsync<PipelineException>()).WithMessage(says).Which;
            Tell(test, name, thrown.GetType().Name);
            thrown.Should().BeOfType(error);
            test.ShouldBeSound(thrown.ToString());
            if (error == typeof(CorruptArtifactException))
            {
                Directory
                    .EnumerateFiles(test.RepositoryFolder, "*", SearchOption.AllDirectories)
                    .Should()
                    .OnlyContain(file => file.Contains("/refs/") || file.Contains("/.listings/"));
            }
        }
        test.Server.Bodies.Count().Should().BeLessThanOrEqualTo(bodies);
        test.Server.Requests.Count.Should().BeLessThanOrEqualTo(40);
        if (waits is { } seconds)
        {
            test.Time.Waits.Should().Contain(wait => Math.Abs(wait.TotalSeconds - seconds) < 1.5);
        }
    }

    /// <summary>A row of the table in docs/reliability.md (-diagnostics shows them).</summary>
    private static void Tell(HubTest test, string name, string outcome)
    {
        long again = Math.Max(0, test.Server.BodyBytes - Size);
        double waited = test.Time.Waits.Sum(wait => wait.TotalSeconds);
        TestContext.Current.SendDiagnosticMessage(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {name} | {test.Server.Requests.Count} | {test.Server.Bodies.Count()} | {again} | {waited:0} | {outcome} |"
            )
        );
    }

    private static Task Abort(Exchange exchange)
    {
        exchange.Context.Abort();
        return Task.CompletedTask;
    }

    private static Task Redirect(Exchange exchange) => Described(exchange);

    private static Task Described(Exchange exchange, string? etag = null, long? size = null, string? commit = null)
    {
        exchange.Describe(etag, size, commit);
        return exchange.StatusAsync(302, ("Location", exchange.Signed()));
    }

    private static string Date(TestTime time, int seconds) =>
        time.GetUtcNow().AddSeconds(seconds).ToString("R", CultureInfo.InvariantCulture);

    private static Case Listed(string path, string? oid = null, string says = "*listing*stay inside*") =>
        new(
            t =>
                t.Server.Listing = [
                    new JsonObject
                    {
                        ["type"] = "file",
                        ["path"] = path,
                        ["size"] = Size,
                        ["oid"] = oid ?? HubServer.Commit,
                    },
                ],
            typeof(CorruptArtifactException),
            says,
            0
        );

    private static Case Refused(Route route, int status, string code, string says) =>
        new(
            t =>
                t.Server.Always(
                    route,
                    async e =>
                    {
                        await e.StatusAsync(status, ("X-Error-Code", code), ("X-Error-Message", HubTest.TokenCanary));
                        await e.TextAsync(HubTest.TokenCanary);
                    }
                ),
            typeof(ConfigurationException),
            says,
            0
        );
}
