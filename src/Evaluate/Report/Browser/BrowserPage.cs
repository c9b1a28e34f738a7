namespace Pipeline.Evaluate.Report.Browser;

/// <summary>
/// The page of a feature browser: a table of all latents and a place for one of them, filled by its script. The policy
/// admits this very script and style, and scripts that lie in the page's folder: the data. The same input gives the same
/// bytes.
/// </summary>
internal static class BrowserPage
{
    /// <summary>Columns: name in the script, heading, class.</summary>
    private static readonly (string Column, string Heading, string Class)[] s_columns =
    [
        ("index", "latent", "n"),
        ("top_token", "token", "token"),
        ("density", "density", "n"),
        ("max_activation", "max", "n"),
        ("mean_activation", "mean", "n wide"),
        ("n2g_f1", "F1", "n"),
    ];

    public static string Render(string runName, SaeResult sae, FeatureColumns columns)
    {
        string style =
            $"\n{ReportAssets.Text("report.css")}{ReportAssets.Text("Browser.latent.css")}{ReportAssets.Text("Browser.browser.css")}";
        string script = $"\n{ReportAssets.Text("Browser.latent.js")}{ReportAssets.Text("Browser.browser.js")}";
        string admitted =
            $"script-src {ReportAssets.PolicyHash(script)} 'self'; style-src {ReportAssets.PolicyHash(style)}";
        return Html.Of(
            $"""
            {PageHead.Of($"{sae.Sae}, {sae.Hook}: latents", admitted, style)}
            <body class="all">
            <header>
            <p class="crumbs muted"><a href="../../../index.html">{runName}</a> / {sae.Hook} / <a href="#">{sae.Sae}</a></p>
            <h1>Latents of {sae.Sae}</h1>
            <p id="status" class="warning" role="status"></p>
            </header>
            <main>
            <noscript><p class="warning">The table of latents is drawn by a script, which this browser does not run.</p></noscript>
            <section id="list" aria-label="All latents">
            <div class="controls" role="search">
            <input id="search" type="search" placeholder="Number or token" aria-label="Search by number or token" autocomplete="off" spellcheck="false">
            <select id="filter" aria-label="Which latents">
            <option value="all">all</option><option value="described">described</option><option value="alive">alive</option><option value="dense">dense</option><option value="dead">dead</option>
            </select>
            <span id="count" class="muted" role="status">loading…</span>
            </div>
            <div id="scroller" class="panel scroll">
            <table id="table" class="sortable" role="grid" aria-label="Latents" aria-readonly="true" tabindex="0">
            <colgroup><col class="latent"><col><col class="figure density"><col class="figure"><col class="figure wide"><col class="figure"></colgroup>
            <thead><tr>{Html.Join(s_columns.Select(Heading))}</tr></thead>
            <tbody></tbody>
            </table>
            </div>
            <p class="keys muted"><kbd>↑</kbd> <kbd>↓</kbd> choose, <kbd>Enter</kbd> open, <kbd>/</kbd> search, <kbd>Esc</kbd> back, <kbd>←</kbd> <kbd>→</kbd> the latent before and after. Figures over {Numbers.Count(
                columns.Tokens
            )} held-out tokens; {Numbers.Count(columns.Described)} latents are described with examples.</p>
            </section>
            <article id="latent" aria-labelledby="name">
            <div class="title"><h1 id="name" tabindex="-1"></h1><span id="flags"></span>
            <nav aria-label="Other latents"><a id="previous" title="in the table's order">← previous</a><a href="#">all</a><a id="next" title="in the table's order">next →</a></nav></div>
            <div id="content"></div>
            </article>
            </main>
            <script>{new Html(script)}</script>
            </body>
            </html>

            """
        ).Markup;
    }

    private static Html Heading((string Column, string Heading, string Class) column) =>
        Html.Of(
            $"""<th scope="col" class="{column.Class}" data-column="{column.Column}"><button type="button">{(column.Column == "n2g_f1" ? Html.Of($"""<span class="long">N2G </span>""") : Html.None)}{column.Heading}</button></th>"""
        );
}
