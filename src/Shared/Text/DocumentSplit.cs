using System.IO.Hashing;
using System.Text;

namespace Pipeline.Shared.Text;

/// <summary>Divides documents into training and held-out ones by their content, whatever file or format they come in.</summary>
public static class DocumentSplit
{
    /// <param name="document">Its title and text decide; its id does not.</param>
    /// <param name="fraction">Share of documents held out, 0 to 1.</param>
    public static bool IsHeldOut(Document document, double fraction)
    {
        ulong hash = XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(document.Title + "\n" + document.Text));
        return (hash >> 11) * (1.0 / (1UL << 53)) < fraction;
    }
}
