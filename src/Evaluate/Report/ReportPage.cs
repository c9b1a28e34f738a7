using System.Globalization;
using Pipeline.Evaluate.Report.Browser;

namespace Pipeline.Evaluate.Report;

// ReportModel ──> summary, table, charts, features, provenance, glossary ──> one HTML page

/// <summary>
/// The report as one static page that opens from disk: styles, script and charts are inside it, and its policy forbids
/// loading anything. The same model gives the same bytes.
/// </summary>
public static class ReportPage
{
    public static string Render(ReportModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        string script = $"\n{ReportAssets.Text("report.js")}";
        // Charts carry style attributes, which a policy admits all together or not at all.
        string admitted = $"style-src 'unsafe-inline'; script-src {ReportAssets.PolicyHash(script)}";
        string style = $"\n{ReportAssets.Text("report.css")}{ReportAssets.Text("Browser.latent.css")}";
        return Html.Of(
            $"""
            {PageHead.Of($"{model.Run.Name}: sparse autoencoder report", admitted, style)}
            <body>
            <a class="skip" href="#results">Skip to the results</a>
            {Header(model)}
            <main>
            {Results(model)}
            {ComparisonSection.Render(model)}
            {ScalingSection.Render(model)}
            {Curves(model)}
            {Densities(model)}
            {Features(model)}
            {Provenance(model)}
            {Glossary(model)}
            </main>
            <footer>Made by Pipeline from the artifacts of this run; it needs no network.</footer>
            <script>{new Html(script)}</script>
            </body>
            </html>

            """
        ).Markup;
    }

    private static Html Header(ReportModel model)
    {
        RunSummary run = model.Run;
        return Html.Of(
            $"""
            <header>
            <h1>{run.Name}</h1>
            <p class="lead">{Summary(model)}</p>
            {Warning(model)}
            <dl class="figures panel" style="padding:0">
            {Figure("Autoencoders", Numbers.Count(model.Saes.Count))}
            {Figure("Tokens harvested", Numbers.Count(run.TokensHarvested))}
            {Figure("Tokens trained, each", Span(model.Saes.Select(TokensTrained)))}
            {Figure("Tokens evaluated", Span(model.Saes.Select(s => s.Metrics.Tokens)))}
            {Figure("Wall time", Numbers.Duration(run.Stages.Sum(s => s.Seconds ?? 0)))}
            </dl>
            <nav aria-label="On this page"><ul>
            <li><a href="#results">Results</a></li>{ComparisonSection.Link(model)}{ScalingSection.Link(
                model
            )}<li><a href="#training">Training</a></li>
            <li><a href="#density">Feature density</a></li>{FeaturesLink(model)}<li><a href="#run">Run</a></li>
            <li><a href="#glossary">Glossary</a></li>
            </ul></nav>
            </header>
            """
        );
    }

    private static Html Summary(ReportModel model)
    {
        int hooks = model.Saes.Select(s => s.Hook).Distinct().Count();
        string subject =
            $"{Plural(model.Saes.Count, "sparse autoencoder")} on {Plural(hooks, "hook")} of {ShortId(model.Run.ModelId)}.";
        List<SaeResult> ranked =
        [
            .. model.Saes.Where(s => s.Metrics.LossRecovered is not null).OrderBy(s => s.Metrics.LossRecovered),
        ];
        return ranked switch
        {
            [] => Html.Of($"{subject} Loss recovered is undefined for all of them."),
            [var only] => Html.Of($"{subject} It recovers <strong>{Percent(only)}</strong> of the loss."),
            [var worst, .., var best] => Html.Of(
                $"{subject} Loss recovered runs from <strong>{Percent(worst)}</strong> ({worst.Sae} at {worst.Hook}) to <strong>{Percent(best)}</strong> ({best.Sae} at {best.Hook})."
            ),
        };
    }

    private static Html Warning(ReportModel model)
    {
        List<string> worse = [.. model.Saes.Where(IsWorseThanMean).Select(s => $"{s.Sae} at {s.Hook}")];
        return worse.Count == 0
            ? Html.None
            : Html.Of(
                $"""
                <p class="warning" role="note"><strong>⚠ FVU above 1:</strong> {string.Join(
                    ", ",
                    worse
                )}. The reconstruction is worse than the mean activation: look for a wrong hook layer, a wrong scale or a diverged training.</p>
                """
            );
    }

    private static Html Results(ReportModel model)
    {
        Dictionary<string, string> definitions = Definitions(model);
        List<MetricDefinition> columns = [.. MetricCatalog.All.Where(m => m.Value is not null)];
        return Html.Of(
            $"""
            <section id="results" aria-labelledby="results-title">
            <h2 id="results-title">Results</h2>
            <p class="muted">Press a heading to sort, scroll sideways for more columns; the <a href="#glossary">glossary</a> defines each metric. Cross-entropies are in nats.</p>
            <div class="panel scroll" role="region" aria-labelledby="results-title" tabindex="0">
            <table class="sortable">
            <thead><tr>{TextHeading("autoencoder")}{NumberHeading("layer", "Block the hook lies in.")}{TextHeading(
                "architecture"
            )}{NumberHeading("features", "Dictionary size.")}{NumberHeading(
                "k",
                "Active latents per token, where the architecture fixes it."
            )}{Html.Join(columns.Select(c => NumberHeading(c.Key, definitions[c.Key])))}</tr></thead>
            <tbody>
            {Lines(model.Saes.Select((sae, i) => Row(sae, i, columns)))}
            </tbody>
            </table>
            </div>
            {Chart(ReportCharts.SparsityAgainstLossRecovered(model, "trade"), model)}
            </section>
            """
        );

        static Html Chart(Html? chart, ReportModel model) =>
            chart is not { } drawn
                ? Html.None
                : Html.Of(
                    $"""
                    <h3 style="margin-top:24px">Sparsity against fidelity</h3>
                    <div class="grid wide">
                    <figure class="panel">{drawn}<figcaption>Up and to the left is better: more of the loss kept with fewer active latents. Lines are the hooks' Pareto fronts.</figcaption></figure>
                    {CurveFigure(
                        ReportCharts.SparsityAgainstFvu(model, "trade-fvu"),
                        "Down and to the left is better: less of the variance left over with fewer active latents."
                    )}
                    <div class="panel column">{Legend(model)}</div>
                    </div>
                    """
                );
    }

    private static Html Row(SaeResult sae, int index, IEnumerable<MetricDefinition> columns) =>
        Html.Of(
            $"""<tr><th scope="row" data-v="{index + 1:D4}">{Mark(index)}{BrowserLink(sae)}<small>{sae.Hook}</small></th>{NumberCell(sae.Layer, sae.Layer?.ToString(CultureInfo.InvariantCulture))}<td data-v="{sae.Architecture}">{sae.Architecture}</td>{NumberCell(sae.Features, Numbers.Count(sae.Features))}{NumberCell(sae.K, sae.K?.ToString(CultureInfo.InvariantCulture))}{Html.Join(columns.Select(c => MetricCell(sae, c)))}</tr>"""
        );

    private static Html BrowserLink(SaeResult sae) =>
        sae.Latents is null
            ? Html.Of($"{sae.Sae}")
            : Html.Of($"""<a href="{BrowserFolder.LinkTo(sae.HookAndSae)}" title="Browse its latents">{sae.Sae}</a>""");

    private static Html MetricCell(SaeResult sae, MetricDefinition metric)
    {
        double? value = metric.Value!(sae.Metrics);
        return metric.Key switch
        {
            "tokens" => NumberCell(value, Numbers.Count(sae.Metrics.Tokens)),
            "fvu" when IsWorseThanMean(sae) => Html.Of(
                $"""<td class="n warn" data-v="{value!.Value:R}" title="Worse than the mean activation">⚠ {Numbers.Metric(value)}</td>"""
            ),
            _ => NumberCell(value, Numbers.Metric(value)),
        };
    }

    private static Html NumberCell(double? value, string? text) =>
        value is { } v
            ? Html.Of($"""<td class="n" data-v="{v:R}">{text}</td>""")
            : Html.Of($"""<td class="n">–</td>""");

    private static Html TextHeading(string name) =>
        Html.Of($"""<th scope="col" data-type="text"><button type="button">{name}</button></th>""");

    private static Html NumberHeading(string name, string definition) =>
        Html.Of(
            $"""<th scope="col" class="n" data-type="number"><button type="button" title="{definition}">{Breakable(name)}</button></th>"""
        );

    /// <summary>Lets a narrow column break a key after its underscores.</summary>
    private static Html Breakable(string key) => new(Html.Escape(key).Replace("_", "_<wbr>", StringComparison.Ordinal));

    private static Html Curves(ReportModel model) =>
        Html.Of(
            $"""
            <section id="training" aria-labelledby="training-title">
            <h2 id="training-title">Training</h2>
            {Legend(model)}
            <div class="grid wide">
            {CurveFigure(
                ReportCharts.TrainingCurve(model, "loss", "loss", p => p.Loss),
                "Training loss. Architectures weigh their terms differently: compare a line with itself, not with its neighbours."
            )}
            {CurveFigure(
                ReportCharts.TrainingCurve(model, "fvu", "FVU", p => p.Fvu),
                "Fraction of variance unexplained on training batches; comparable across architectures."
            )}
            </div>
            </section>
            """
        );

    private static Html CurveFigure(Html? chart, string caption) =>
        chart is { } drawn
            ? Html.Of($"""<figure class="panel">{drawn}<figcaption>{caption}</figcaption></figure>""")
            : Html.None;

    private static Html Densities(ReportModel model) =>
        Html.Of(
            $"""
            <section id="density" aria-labelledby="density-title">
            <h2 id="density-title">Feature density</h2>
            <p class="muted">How often latents fire, as a histogram of log₁₀ frequency over the evaluated tokens, BOS included. Latents that never fired are counted beside each chart, not in it.</p>
            <div class="grid">
            {Lines(model.Saes.Select((sae, i) => DensityFigure(model, sae, i)))}
            </div>
            </section>
            """
        );

    private static Html DensityFigure(ReportModel model, SaeResult sae, int index)
    {
        Html chart = ReportCharts.Density(model, index, $"density{index + 1}") ?? Html.Of($"<p>No histogram.</p>");
        string dead = sae.Metrics.DeadFraction is { } fraction
            ? $"{Numbers.Count((long)Math.Round(fraction * sae.Features))} of {Numbers.Count(sae.Features)} latents never fired."
            : "";
        return Html.Of(
            $"""<figure class="panel"><h3>{Mark(index)}{sae.Sae} <span class="muted">{sae.Hook}</span></h3>{chart}<figcaption>{dead}</figcaption></figure>"""
        );
    }

    private static Html FeaturesLink(ReportModel model) =>
        HasFeatures(model) ? Html.Of($"""<li><a href="#features">Latents</a></li>""") : Html.None;

    private static Html Features(ReportModel model) =>
        HasFeatures(model)
            ? Html.Of(
                $"""
                <section id="features" aria-labelledby="features-title">
                <h2 id="features-title">Latents</h2>
                <p class="muted">Each autoencoder's browser lists all its latents and shows text they fire on; BOS is left out of all it counts. Below, of each, the described latents that patterns foretell best. Shade is activation as a share of the latent's maximum; the outlined token is the one the example was picked for.</p>
                <div class="grid wide">
                {Lines(model.Saes.Index().Where(s => s.Item.Latents is not null).Select(s => Latents(s.Item, s.Index)))}
                </div>
                </section>
                """
            )
            : Html.None;

    private static Html Latents(SaeResult sae, int index)
    {
        LatentsSummary latents = sae.Latents!;
        return Html.Of(
            $"""
            <div class="panel latents"><h3>{Mark(index)}{sae.Sae} <span class="muted">{sae.Hook}</span></h3>
            <p><a class="open" href="{BrowserFolder.LinkTo(sae.HookAndSae)}">Browse {Plural(
                latents.Latents,
                "latent"
            )}</a> <span class="muted">{Numbers.Count(latents.Described)} described, {Numbers.Count(
                latents.Dead
            )} dead, {Numbers.Count(latents.Dense)} dense{N2G(latents.N2G)}</span></p>
            {Lines(latents.Highlights.Select(highlight => Highlight(sae, highlight)))}
            </div>
            """
        );
    }

    private static Html Highlight(SaeResult sae, LatentHighlight latent) =>
        Html.Of(
            $"""<article class="feature"><h4><a href="{BrowserFolder.LinkTo(sae.HookAndSae, latent.Index)}">Latent {latent.Index}</a> <span class="muted">{N2G(latent.N2GF1)}fires on {Numbers.Short(latent.Density * 100)}% of tokens, at most {Numbers.Short(latent.MaxActivation)}</span></h4>{(latent.Example is { } example ? Example(example, latent.MaxActivation) : Html.None)}</article>"""
        );

    private static string N2G(N2GMean? mean) =>
        mean is { } found
            ? $"; N2G over {Numbers.Count(found.Latents)}: precision {Numbers.Metric(found.Precision)}, recall {Numbers.Metric(found.Recall)}, F1 {Numbers.Metric(found.F1)}"
            : "";

    private static string N2G(double? f1) => f1 is { } value ? $"N2G F1 {Numbers.Fixed(value, 2)}, " : "";

    private static Html Example(FeatureExample example, double maxActivation) =>
        Html.Of(
            $"""<p class="example">{Html.Join(example.Tokens.Select((token, i) => Token(i == 0 ? token.TrimStart(' ') : token, example.Activations[i], maxActivation, i == example.Peak)))}</p>"""
        );

    private static Html Token(string token, float activation, double maxActivation, bool isPeak)
    {
        const int Shades = 8;
        string visible = token
            .Replace("\r\n", "↵", StringComparison.Ordinal)
            .Replace('\n', '↵')
            .Replace('\r', '↵')
            .Replace('\t', '⇥');
        double share = maxActivation > 0 ? Math.Clamp(activation / maxActivation, 0, 1) : 0;
        int shade = double.IsNaN(share) ? 0 : (int)Math.Ceiling(share * Shades);
        string title = Numbers.Short(activation);
        // The space before a word stays outside the shade, which a line break would otherwise leave hanging.
        string word = visible.TrimStart(' ') is { Length: > 0 } trimmed ? trimmed : visible;
        string space = visible[..^word.Length];
        return (isPeak, shade) switch
        {
            (true, _) => Html.Of($"""{space}<mark class="a{shade}" title="{title}">{word}</mark>"""),
            (false, > 0) => Html.Of($"""{space}<span class="a{shade}" title="{title}">{word}</span>"""),
            _ => Html.Of($"{visible}"),
        };
    }

    private static Html Provenance(ReportModel model)
    {
        RunSummary run = model.Run;
        string hooks = string.Join(", ", model.Saes.Select(s => s.Hook).Distinct());
        string source = run.ModelPath is { } path && path != run.ModelId ? $"{run.ModelId} ({path})" : run.ModelId;
        return Html.Of(
            $"""
            <section id="run" aria-labelledby="run-title">
            <h2 id="run-title">Run</h2>
            <div class="grid wide">
            <div class="panel"><h3>Provenance</h3>{Pairs([
                KeyValuePair.Create("Model", source),
                KeyValuePair.Create("Text", run.Text),
                KeyValuePair.Create("Hooks", hooks),
                KeyValuePair.Create("Seed", run.Seed),
                KeyValuePair.Create("Documents", Numbers.Count(run.DocumentsHarvested)),
                KeyValuePair.Create("Started", run.Started),
                KeyValuePair.Create("Finished", run.Finished ?? "not yet, when this page was made"),
            ])}</div>
            <div class="panel"><h3>Wall time</h3><table><thead><tr><th scope="col">Stage</th><th scope="col">Status</th><th scope="col" class="n">Time</th></tr></thead><tbody>
            {Lines(run.Stages.Select(s => Html.Of($"""<tr><td>{s.Name}</td><td>{s.Status}</td><td class="n">{Numbers.Duration(s.Seconds)}</td></tr>""")))}
            </tbody></table></div>
            <div class="panel"><h3>Versions</h3>{Pairs(run.Versions)}</div>
            <div class="panel"><h3>Machine</h3>{Pairs(run.Machine)}</div>
            </div>
            {ResolvedPipeline(run.PipelineJson)}
            </section>
            """
        );
    }

    private static Html ResolvedPipeline(string? json) =>
        json is null
            ? Html.None
            : Html.Of(
                $"""<details class="panel" style="margin-top:16px"><summary>Resolved pipeline</summary><pre tabindex="0"><code>{json}</code></pre></details>"""
            );

    private static Html Pairs(IEnumerable<KeyValuePair<string, string>> pairs) =>
        Html.Of(
            $"""<table class="pairs"><tbody>{Html.Join(pairs.Select(p => Html.Of($"""<tr><th scope="row">{p.Key}</th><td>{p.Value}</td></tr>""")))}</tbody></table>"""
        );

    private static Html Glossary(ReportModel model) =>
        Html.Of(
            $"""
            <section id="glossary" aria-labelledby="glossary-title">
            <h2 id="glossary-title">Glossary</h2>
            <p class="muted">x is an activation, x̂ its reconstruction, f the latents.</p>
            <dl class="glossary panel">
            {Lines(Definitions(model).Select(d => Html.Of($"""<dt class="key">{d.Key}</dt><dd>{d.Value}</dd>""")))}
            </dl>
            </section>
            """
        );

    /// <summary>The catalogue's definitions in its order, overridden by the artifacts' own, then what only artifacts define.</summary>
    private static Dictionary<string, string> Definitions(ReportModel model)
    {
        Dictionary<string, string> definitions = MetricCatalog.All.ToDictionary(m => m.Key, m => m.Definition);
        IEnumerable<KeyValuePair<string, string>> stated = model
            .Saes.SelectMany(s => s.Metrics.Definitions.OrderBy(d => d.Key, StringComparer.Ordinal))
            .DistinctBy(d => d.Key);
        foreach ((string key, string definition) in stated)
        {
            definitions[key] = definition;
        }
        return definitions;
    }

    /// <summary>Which colour and number is which autoencoder; charts carry the numbers, so colour is never alone.</summary>
    private static Html Legend(ReportModel model) =>
        Html.Of(
            $"""<ul class="legend">{Html.Join(model.Saes.Select((s, i) => Html.Of($"""<li>{Mark(i)}{s.Sae} <span class="muted">{s.Hook}</span></li>""")))}</ul>"""
        );

    internal static Html Mark(int index) =>
        Html.Of(
            $"""<span class="swatch" style="background:var(--s{index % Report.Chart.PaletteSize})"></span><span class="number">{index + 1}</span>"""
        );

    private static Html Figure(string name, string value) => Html.Of($"<div><dt>{name}</dt><dd>{value}</dd></div>");

    private static Html Lines(IEnumerable<Html> parts) => new(string.Join('\n', parts.Select(p => p.Markup)));

    private static bool HasFeatures(ReportModel model) => model.Saes.Any(s => s.Latents is not null);

    private static bool IsWorseThanMean(SaeResult sae) => sae.Metrics.Fvu > 1;

    private static long TokensTrained(SaeResult sae) => sae.Curve.Count == 0 ? 0 : sae.Curve[^1].Tokens;

    private static string Percent(SaeResult sae) => Numbers.Fixed(sae.Metrics.LossRecovered!.Value * 100, 1) + "%";

    /// <summary><c>org/name@revision</c> with a commit hash cut to seven digits; the run section has all of it.</summary>
    private static string ShortId(string id) =>
        id.LastIndexOf('@') is > 0 and var at && id.Length - at > 20 ? id[..(at + 8)] : id;

    private static string Plural(int count, string noun) => $"{Numbers.Count(count)} {noun}{(count == 1 ? "" : "s")}";

    private static string Span(IEnumerable<long> values)
    {
        List<long> sorted = [.. values.Distinct().Order()];
        return sorted.Count switch
        {
            0 => "–",
            1 => Numbers.Count(sorted[0]),
            _ => $"{Numbers.Count(sorted[0])} – {Numbers.Count(sorted[^1])}",
        };
    }
}
