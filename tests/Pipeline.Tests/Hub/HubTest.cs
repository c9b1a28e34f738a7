using System.Security.Cryptography;
using System.Text;
using Pipeline.Shared;
using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

/// <summary>A server, an empty cache and a client of its own for one test.</summary>
internal sealed class HubTest : IAsyncDisposable, IProgressSink
{
    public const string TokenCanary = "hf_CanaryThatNobodyMaySee";
    public const string SignatureCanary = "SignatureThatNobodyMaySee";

    private readonly TempFolder folder = new();
    private readonly StringBuilder said = new();

    private HubTest(HubServer server) => Server = server;

    public HubServer Server { get; }

    public TestTime Time { get; } = new();

    public string Cache => folder["hub"];

    public string RepositoryFolder => Path.Combine(Cache, "models--org--name");

    /// <summary>Everything the user was told.</summary>
    public string Said
    {
        get
        {
            lock (said)
            {
                return said.ToString();
            }
        }
    }

    /// <summary>Where a file is while it arrives.</summary>
    public string Partial(Offered file) => Path.Combine(RepositoryFolder, "blobs", file.ETag + ".incomplete");

    public static async Task<HubTest> StartAsync() => new(await HubServer.StartAsync());

    /// <summary>Bytes that compress badly and differ by seed.</summary>
    public static byte[] Bytes(int count, ulong seed = 1)
    {
        byte[] bytes = new byte[count];
        var random = new Xoshiro256(seed);
        for (int i = 0; i < count; i++)
        {
            bytes[i] = (byte)random.NextULong();
        }
        return bytes;
    }

    public HubOptions Options(bool offline = false) =>
        new()
        {
            Endpoint = Server.Endpoint,
            CacheFolder = Cache,
            Token = TokenCanary,
            Offline = offline,
            JitterSeed = 1,
        };

    public async Task<HubSnapshot> FetchAsync(
        string name,
        bool offline = false,
        TimeProvider? time = null,
        HubOptions? options = null
    )
    {
        using var client = new HubClient(
            options ?? Options(offline),
            new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false },
            time ?? Time
        );
        return await client.FetchAsync(HubReference.Parse(name), this, TestContext.Current.CancellationToken);
    }

    /// <summary>What holds after any fetch, done or failed: hashes fit names, and secrets stay where they belong.</summary>
    public void ShouldBeSound(string? message = null)
    {
        Directory.EnumerateFileSystemEntries(folder.Path).Should().BeSubsetOf([Cache]);
        if (Directory.Exists(Cache))
        {
            Directory
                .EnumerateFileSystemEntries(Cache)
                .Should()
                .BeSubsetOf([RepositoryFolder, Path.Combine(Cache, ".locks")]);
        }
        string blobs = Path.Combine(RepositoryFolder, "blobs");
        foreach (string blob in Directory.Exists(blobs) ? Directory.EnumerateFiles(blobs) : [])
        {
            string name = Path.GetFileName(blob);
            if (!name.EndsWith(".incomplete", StringComparison.Ordinal))
            {
                byte[] content = File.ReadAllBytes(blob);
                new Offered(name, content, name.Length == 64).ETag.Should().Be(name);
            }
        }
        Server.Requests.Where(request => request.Route == Route.Cdn).Should().OnlyContain(r => r.Authorization == null);
        foreach (string secret in new[] { TokenCanary, SignatureCanary })
        {
            Said.Should().NotContain(secret);
            (message ?? "").Should().NotContain(secret);
            ShouldNotHold(folder.Path, secret);
        }
    }

    public static void ShouldNotHold(string folder, string secret)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(secret);
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Where(File.Exists))
        {
            File.ReadAllBytes(file).AsSpan().IndexOf(bytes).Should().Be(-1, "{0} would show a secret", file);
        }
    }

    public void Update(string task, double done, double total, string unit, string detail = "") =>
        Say($"{task} {done} of {total} {unit} {detail}");

    public void Say(string line)
    {
        lock (said)
        {
            said.AppendLine(line);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        Server.Bug.Should().BeNull();
        folder.Dispose();
    }
}
