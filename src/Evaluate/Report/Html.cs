using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Pipeline.Evaluate.Report;

/// <summary>Markup that is safe to emit as it is.</summary>
internal readonly record struct Html(string Markup)
{
    /// <summary>Markup from an interpolated string: every hole is escaped unless it holds <see cref="Html"/> itself.</summary>
    public static Html Of(HtmlInterpolation markup) => new(markup.ToStringAndClear());

    public static Html Join(IEnumerable<Html> parts) => new(string.Concat(parts.Select(p => p.Markup)));

    public static Html None { get; } = new("");

    public static string Escape(string text)
    {
        StringBuilder escaped = new(text.Length + 16);
        foreach (Rune rune in text.EnumerateRunes()) // Lone surrogates come out as U+FFFD.
        {
            _ = rune.Value switch
            {
                '&' => escaped.Append("&amp;"),
                '<' => escaped.Append("&lt;"),
                '>' => escaped.Append("&gt;"),
                '"' => escaped.Append("&quot;"),
                '\'' => escaped.Append("&#39;"),
                // Control characters have no place in HTML, and a decoded byte token may be one.
                < 0x20 and not '\n' and not '\t' or (>= 0x7f and < 0xa0) => escaped.Append('\uFFFD'),
                _ => escaped.Append(rune.ToString()),
            };
        }
        return escaped.ToString();
    }
}

/// <summary>Escapes by construction: text can reach the page only through <see cref="Html.Escape"/>.</summary>
[InterpolatedStringHandler]
internal readonly struct HtmlInterpolation(int literalLength, int formattedCount)
{
    private readonly StringBuilder _markup = new(literalLength + (16 * formattedCount));

    public void AppendLiteral(string literal) => _markup.Append(literal);

    public void AppendFormatted(Html html) => _markup.Append(html.Markup);

    public void AppendFormatted(string? text) => _markup.Append(Html.Escape(text ?? ""));

    public void AppendFormatted<T>(T value, string? format = null)
        where T : IFormattable => _markup.Append(Html.Escape(value.ToString(format, CultureInfo.InvariantCulture)));

    public string ToStringAndClear() => _markup.ToString();
}
