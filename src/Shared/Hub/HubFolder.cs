namespace Pipeline.Shared.Hub;

/// <summary>Lets <c>hf://</c> stand wherever a local folder or file can.</summary>
public static class HubFolder
{
    public static bool IsHubUrl(string path) => path.StartsWith(HubReference.Scheme, StringComparison.Ordinal);

    /// <summary>The local path of an <c>hf://</c> name, fetched where the cache lacks it; any other path unchanged.</summary>
    /// <exception cref="PipelineException">As <see cref="Fetch"/>.</exception>
    public static string Resolve(string pathOrHfUrl, IProgressSink progress, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(pathOrHfUrl);
        return IsHubUrl(pathOrHfUrl) ? Fetch(pathOrHfUrl, progress, cancel).Path : pathOrHfUrl;
    }

    /// <summary>Fetches an <c>hf://</c> name, with the settings of the environment.</summary>
    /// <exception cref="ConfigurationException">A malformed name; not there, private or gated.</exception>
    /// <exception cref="StageFailedException">No network, no disk space, or offline with something missing.</exception>
    /// <exception cref="CorruptArtifactException">What the hub sends is not what it lists.</exception>
    /// <exception cref="RunInterruptedException"><paramref name="cancel"/> was asked to stop.</exception>
    public static HubSnapshot Fetch(string hfUrl, IProgressSink progress, CancellationToken cancel)
    {
        var reference = HubReference.Parse(hfUrl);
        using var client = new HubClient(HubOptions.FromEnvironment());
        try
        {
            return client.FetchAsync(reference, progress, cancel).GetAwaiter().GetResult();
        }
        catch (OperationCanceledException e) when (cancel.IsCancellationRequested)
        {
            throw new RunInterruptedException(
                $"{reference}: interrupted. Run again: what was fetched is kept and taken up.",
                e
            );
        }
    }
}
