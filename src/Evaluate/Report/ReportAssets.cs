using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Evaluate.Report;

/// <summary>Style sheets and scripts of the pages, as they lie beside the code.</summary>
public static class ReportAssets
{
    /// <summary>A file of this folder, or of <c>Browser</c> as <c>Browser.name</c>.</summary>
    public static string Text(string name)
    {
        using Stream stream =
            typeof(ReportAssets).Assembly.GetManifestResourceStream($"{typeof(ReportAssets).Namespace}.{name}")
            ?? throw new InvalidOperationException($"{name} is not embedded in {typeof(ReportAssets).Assembly}.");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }

    /// <summary>What a page's policy calls an inline script or style by, so that it admits this one and no other.</summary>
    internal static string PolicyHash(string content) =>
        $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(content)))}'";
}
