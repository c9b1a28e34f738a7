using System.Globalization;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Models;

/// <summary>A place in a block, in the order the forward pass reaches it. Names follow TransformerLens.</summary>
public enum HookSite
{
    /// <summary>The residual stream entering the block.</summary>
    ResidPre,

    /// <summary>The attention's output, bias included, before it is added.</summary>
    AttnOut,

    /// <summary>The residual stream after attention was added.</summary>
    ResidMid,

    /// <summary>The MLP's output, bias included, before it is added.</summary>
    MlpOut,

    /// <summary>The residual stream leaving the block, before any final norm.</summary>
    ResidPost,
}

/// <summary>A hook of a certain model: layer (0-based) and site, written <c>blocks.{layer}.hook_resid_post</c>.</summary>
public readonly partial record struct HookPoint(int Layer, HookSite Site)
{
    private static readonly (string Name, HookSite Site)[] Sites =
    [
        ("hook_resid_pre", HookSite.ResidPre),
        ("hook_attn_out", HookSite.AttnOut),
        ("hook_resid_mid", HookSite.ResidMid),
        ("hook_mlp_out", HookSite.MlpOut),
        ("hook_resid_post", HookSite.ResidPost),
    ];

    /// <summary>
    /// Parses <c>blocks.L.SITE</c>, where L is a layer, a negative layer counted from the end (-1 is the last), or
    /// <c>mid</c> (layers / 2).
    /// </summary>
    /// <param name="text">The hook as the user wrote it.</param>
    /// <param name="layers">The model's number of layers.</param>
    /// <param name="where">File and field, for the message.</param>
    /// <exception cref="ConfigurationException">Not a hook, or beyond the model's layers.</exception>
    public static HookPoint Parse(string text, int layers, string where)
    {
        var match = Pattern().Match(text);
        int site = match.Success ? Array.FindIndex(Sites, s => s.Name == match.Groups["site"].Value) : -1;
        if (site < 0)
        {
            throw new ConfigurationException(
                new Fault(
                    where,
                    $"'{text}'",
                    "blocks.LAYER.SITE with SITE one of " + string.Join(", ", Sites.Select(s => s.Name)),
                    "Write for example blocks.2.hook_resid_post, blocks.mid.hook_resid_post or blocks.-2.hook_resid_post"
                ).ToString()
            );
        }
        string layerText = match.Groups["layer"].Value;
        long layer = layerText == "mid" ? layers / 2 : long.Parse(layerText, CultureInfo.InvariantCulture);
        long resolved = layer < 0 ? layers + layer : layer;
        if (resolved < 0 || resolved >= layers)
        {
            throw new ConfigurationException(
                new Fault(
                    where,
                    $"layer {layerText} in '{text}'",
                    $"a layer of this model: 0 to {layers - 1}, or -{layers} to -1 counted from the end",
                    "Choose a layer the model has"
                ).ToString()
            );
        }
        return new HookPoint((int)resolved, Sites[site].Site);
    }

    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"blocks.{Layer}.{Array.Find(Sites, SiteIs(Site)).Name}");

    private static Predicate<(string Name, HookSite Site)> SiteIs(HookSite site) => entry => entry.Site == site;

    [GeneratedRegex(@"^blocks\.(?<layer>-?\d{1,9}|mid)\.(?<site>\w+)$", RegexOptions.CultureInvariant)]
    private static partial Regex Pattern();
}
