namespace Pipeline.Shared.Hub;

/// <summary>How to reach the Hugging Face hub, and where its files are kept.</summary>
public sealed record HubOptions
{
    private readonly Uri endpoint = new("https://huggingface.co");
    private readonly string? token;

    /// <summary>The hub's address, or a mirror's; a path in it is kept.</summary>
    /// <exception cref="ConfigurationException">Not an http(s) address, or one with a user name.</exception>
    public Uri Endpoint
    {
        get => endpoint;
        init =>
            endpoint = value is { IsAbsoluteUri: true, Scheme: "http" or "https", UserInfo: "", Query: "" }
                ? new Uri(value.AbsoluteUri.TrimEnd('/'))
                : throw Refuse(
                    "HF_ENDPOINT",
                    "something that is no plain web address",
                    "an address like https://huggingface.co, without user name or query",
                    "Correct or unset HF_ENDPOINT"
                );
    }

    /// <summary>The cache that huggingface_hub uses too: <c>models--org--name</c> folders lie directly in it.</summary>
    public required string CacheFolder { get; init; }

    /// <summary>Sent to <see cref="Endpoint"/> alone and shown nowhere; null for none.</summary>
    /// <exception cref="ConfigurationException">It has characters that no token has; the message does not show it.</exception>
    public string? Token
    {
        get => token;
        init =>
            token =
                value is null || value.All(c => c is > ' ' and < '\x7f')
                    ? value
                    : throw Refuse(
                        "the Hugging Face token",
                        "spaces, line breaks or characters outside ASCII",
                        "the token alone, like hf_...",
                        "Correct HF_TOKEN or the token file"
                    );
    }

    /// <summary>Use the cache alone.</summary>
    public bool Offline { get; init; }

    /// <summary>A transfer without a byte for this long is given up and tried again (default 30 s).</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// A transfer that brings fewer than this in <see cref="SlowWindow"/> is given up and tried again from where it is
    /// (default 64 KiB).
    /// </summary>
    public long SlowBytes { get; init; } = 64 << 10;

    /// <summary>Waiting for the network after which <see cref="SlowBytes"/> must have come, again and again (default 60 s).</summary>
    public TimeSpan SlowWindow { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Files and folders one listing may have, all of which are in memory (default 250,000).</summary>
    public int MostListed { get; init; } = 250_000;

    /// <summary>Bytes the pages of one listing may have together, which bound the names' memory (default 128 MiB).</summary>
    public long MostListedBytes { get; init; } = 128L << 20;

    /// <summary>Tries in a row that bring nothing before giving up (default 5).</summary>
    public int Tries { get; init; } = 5;

    /// <summary>Files fetched at a time (default 4).</summary>
    public int ParallelFiles { get; init; } = 4;

    /// <summary>Seeds the jitter of back-offs, which should differ between processes (default: the process id).</summary>
    public ulong JitterSeed { get; init; } = (ulong)Environment.ProcessId;

    /// <summary>
    /// The settings huggingface_hub reads: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HUGGING_FACE_HUB_TOKEN,
    /// HF_TOKEN_PATH, HF_HUB_OFFLINE; the cache is <c>~/.cache/huggingface/hub</c> where they name none.
    /// </summary>
    /// <param name="variable">Reads a variable; null for the process' own environment.</param>
    /// <exception cref="ConfigurationException">A variable holds what cannot be used.</exception>
    public static HubOptions FromEnvironment(Func<string, string?>? variable = null)
    {
        variable ??= Environment.GetEnvironmentVariable;
        string? Read(string name) => string.IsNullOrWhiteSpace(variable(name)) ? null : variable(name)!.Trim();
        string user = Read("HOME") ?? Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string Expand(string path) =>
            path == "~" || path.StartsWith("~/", StringComparison.Ordinal) ? user + path[1..] : path;

        string caches = Read("XDG_CACHE_HOME") ?? Path.Combine(user, ".cache");
        string home = Expand(Read("HF_HOME") ?? Path.Combine(caches, "huggingface"));
        string tokenFile = Expand(Read("HF_TOKEN_PATH") ?? Path.Combine(home, "token"));
        string endpoint = Read("HF_ENDPOINT") ?? "https://huggingface.co";
        return new HubOptions
        {
            Endpoint = Uri.TryCreate(endpoint, UriKind.Absolute, out var uri) ? uri : new Uri("/", UriKind.Relative),
            CacheFolder = Path.GetFullPath(Expand(Read("HF_HUB_CACHE") ?? Path.Combine(home, "hub"))),
            Token = Read("HF_TOKEN") ?? Read("HUGGING_FACE_HUB_TOKEN") ?? TokenIn(tokenFile),
            Offline = Read("HF_HUB_OFFLINE")?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE",
        };
    }

    /// <summary>Without the token: a record would print it.</summary>
    public override string ToString() => $"{Endpoint} cached in {CacheFolder}";

    private static string? TokenIn(string file)
    {
        try
        {
            return File.ReadAllText(file).Trim() is { Length: > 0 } text ? text : null;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Refuse(
                file,
                "a token file that cannot be read",
                "a readable file",
                "Check its rights, or set HF_TOKEN"
            );
        }
    }

    private static ConfigurationException Refuse(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
