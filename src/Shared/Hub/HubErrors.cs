using System.Globalization;
using System.Net;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Hub;

/// <summary>Words what the hub refuses. Nothing of an answer's text is shown: it could hold what was sent.</summary>
internal static class HubErrors
{
    /// <param name="reference">What was asked for.</param>
    /// <param name="endpoint">The hub's address, for the page to open.</param>
    /// <param name="path">The file or folder that the request named.</param>
    /// <param name="response">A refusal.</param>
    /// <param name="hasToken">A token was sent.</param>
    /// <param name="now">For a date in Retry-After.</param>
    public static Exception For(
        HubReference reference,
        Uri endpoint,
        string path,
        HttpResponseMessage response,
        bool hasToken,
        DateTimeOffset now
    )
    {
        string where = path.Length == 0 ? $"{reference}" : $"{reference}: {Spelling.Shown(path)}";
        string page = $"{endpoint.AbsoluteUri.TrimEnd('/')}/{(reference.IsDataset ? "datasets/" : "")}{reference.Id}";
        string kind = reference.IsDataset ? "dataset" : "model";
        string code = response.Headers.TryGetValues("X-Error-Code", out var codes) ? codes.First() : "";
        string withToken = hasToken ? "a token that may read it" : "a token (set HF_TOKEN)";
        switch (response.StatusCode)
        {
            case HttpStatusCode.RequestTimeout
            or HttpStatusCode.TooManyRequests
            or >= HttpStatusCode.InternalServerError:
                return new HubTransientException(Status(response), RequestedWait.In(response.Headers, now));
            case HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden when code == "GatedRepo":
            case HttpStatusCode.Forbidden:
                return Refuse(
                    where,
                    $"a gated {kind} that {(hasToken ? "this token's owner" : "nobody without a token")} may read",
                    $"access to {page}",
                    $"Accept its conditions on that page, and use {withToken}"
                );
            case HttpStatusCode.Unauthorized when hasToken:
                return Refuse(
                    where,
                    "a token that the hub refuses, or a private repository it may not read",
                    $"a valid token with access to {page}",
                    "Make a new token in the hub's settings and set HF_TOKEN, or correct the name"
                );
            case HttpStatusCode.Unauthorized:
                return Refuse(
                    where,
                    $"no such public {kind} (private, or not there)",
                    $"a {kind} at {page}",
                    "Correct the name, or set HF_TOKEN to a token that may read it"
                );
            case HttpStatusCode.NotFound when code == "RevisionNotFound":
                return Refuse(
                    where,
                    $"no revision '{reference.Revision}'",
                    $"a branch, tag or commit of {page}",
                    "Correct what follows '@', or leave it out for main"
                );
            case HttpStatusCode.NotFound when code == "EntryNotFound":
                return Missing(reference, endpoint, path);
            case HttpStatusCode.NotFound:
                return Refuse(
                    where,
                    $"no such {kind} (it is not there, or private)",
                    $"a {kind} at {page}",
                    $"Correct the name, or use {withToken}; a dataset's name starts with hf://datasets/"
                );
            default:
                return new StageFailedException(
                    new Fault(where, Status(response), "the file", $"See {page}; check HF_ENDPOINT").ToString()
                );
        }
    }

    public static ConfigurationException Missing(HubReference reference, Uri endpoint, string path) =>
        Refuse(
            $"{reference}",
            path.Length == 0 ? "no file that is wanted" : $"no '{Spelling.Shown(path)}' in the repository",
            "a file, a folder, or a glob that matches some file",
            $"Look at {endpoint.AbsoluteUri.TrimEnd('/')}/{(reference.IsDataset ? "datasets/" : "")}{reference.Id}/tree/"
                + $"{reference.Revision} for what it holds"
        );

    /// <param name="reference">What was asked for.</param>
    /// <param name="folder">What was listed for it; empty for the root.</param>
    /// <param name="entries">Files and folders listed until now.</param>
    /// <param name="bytes">Bytes of the listing until now.</param>
    /// <param name="options">The limits.</param>
    public static ConfigurationException TooMuchListed(
        HubReference reference,
        string folder,
        int entries,
        long bytes,
        HubOptions options
    ) =>
        Refuse(
            folder.Length == 0 ? $"{reference}" : $"{reference}: {Spelling.Shown(folder)}",
            string.Create(
                CultureInfo.InvariantCulture,
                $"a listing of {entries} files and folders, {bytes} bytes, or more"
            ),
            string.Create(
                CultureInfo.InvariantCulture,
                $"at most {options.MostListed} and {options.MostListedBytes} bytes, which memory holds"
            ),
            $"Name a smaller folder, such as {reference with { Path = null }}/FOLDER; a single file of so large a folder is used "
                + "where huggingface_hub has put it into the cache"
        );

    public static ConfigurationException SeveralConfigurations(HubReference reference, IReadOnlyList<string> folders)
    {
        const int MostShown = 400; // Wikipedia has a folder for each of its 320 languages
        string shown = string.Join(", ", folders.Take(MostShown).Select(folder => Spelling.Shown(folder)));
        int more = folders.Count - MostShown;
        return Refuse(
            $"{reference}",
            string.Create(CultureInfo.InvariantCulture, $"{folders.Count} folders: {shown}")
                + (more > 0 ? string.Create(CultureInfo.InvariantCulture, $" and {more} more") : ""),
            "the name of one of them, or a glob",
            $"Write {reference}/{Spelling.Shown(folders[0])}, or {reference}/** for all of them"
        );
    }

    /// <param name="reference">What was asked for.</param>
    /// <param name="cacheFolder">Where it is not.</param>
    /// <param name="missing">What is missing, to follow "no".</param>
    public static StageFailedException Offline(HubReference reference, string cacheFolder, string missing) =>
        new(
            new Fault(
                $"{reference}",
                $"no {missing} in {cacheFolder}, and HF_HUB_OFFLINE is set",
                "a complete copy in the cache",
                $"Unset HF_HUB_OFFLINE and run: sae fetch {reference}; or name a local folder or file in its place"
            ).ToString()
        );

    public static StageFailedException NoSpace(string blob, long needed, IOException e) =>
        new(
            new Fault(
                blob,
                "no space left on the disk",
                string.Create(CultureInfo.InvariantCulture, $"room for {needed} bytes more"),
                "Free space or set HF_HUB_CACHE to another folder, then run again: what was fetched is kept"
            ).ToString(),
            e
        );

    public static string Status(HttpResponseMessage response) =>
        string.Create(CultureInfo.InvariantCulture, $"the server answered {(int)response.StatusCode}");

    private static ConfigurationException Refuse(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
