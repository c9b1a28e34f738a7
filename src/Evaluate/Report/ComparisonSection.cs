namespace Pipeline.Evaluate.Report;

/// <summary>How sure the numbers are, what they are worth beside baselines, and where in the text they come from; nothing where the evaluation says none of it.</summary>
internal static class ComparisonSection
{
    /// <summary>Four under loss recovered, three under FVU, four under ablation.</summary>
    private static readonly string[] s_columns =
    [
        "autoencoder",
        "PCA",
        "random",
        "all hooks",
        "autoencoder",
        "PCA",
        "random",
        "top tokens fall",
        "predicted",
        "any token",
        "correlation",
    ];

    private static readonly string[] s_groupColumns =
    [
        "tokens",
        "L0",
        "FVU",
        "CE clean",
        "CE spliced",
        "loss recovered",
    ];

    public static Html Link(ReportModel model) =>
        Compared(model).Count + Broken(model).Count == 0
            ? Html.None
            : Html.Of($"""<li><a href="#comparison">Comparison</a></li>""");

    public static Html Render(ReportModel model) =>
        Compared(model).Count + Broken(model).Count == 0
            ? Html.None
            : Html.Of(
                $"""
                <section id="comparison" aria-labelledby="comparison-title">
                <h2 id="comparison-title">Comparison</h2>
                {Comparison(model)}
                {Html.Join(Broken(model).Select(s => Breakdown(s.Item, s.Index)))}
                </section>
                """
            );

    private static List<(int Index, SaeResult Item)> Compared(ReportModel model) =>
        [
            .. model
                .Saes.Index()
                .Where(s =>
                    s.Item.Details
                        is { Pca: not null }
                            or { Random: not null }
                            or { AllHooks: not null }
                            or { LossRecovered: not null }
                            or { DirectEffect: not null }
                ),
        ];

    private static List<(int Index, SaeResult Item)> Broken(ReportModel model) =>
        [.. model.Saes.Index().Where(s => s.Item.Details is { ByClass.Count: > 0 } or { ByPosition.Count: > 0 })];

    private static Html Comparison(ReportModel model)
    {
        var rows = Compared(model);
        if (rows.Count == 0)
        {
            return Html.None;
        }
        double? confidence = rows.Select(s => s.Item.Details.Confidence).FirstOrDefault(c => c is not null);
        string brackets = confidence is { } share
            ? $" In brackets: the middle {Numbers.Short(share * 100)}% over resampled documents."
            : "";
        return Html.Of(
            $"""
            <p class="muted">Loss recovered by each autoencoder, by reconstructions of the same hook that took no training (PCA with as many directions as latents fire; a dictionary of random directions of which as many are kept), and by all hooks' autoencoders of the name at once.{brackets}</p>
            <div class="panel scroll" role="region" aria-labelledby="comparison-title" tabindex="0">
            <table class="sortable compact">
            <thead><tr><th scope="col" rowspan="2">autoencoder</th><th scope="colgroup" colspan="4" class="group">loss recovered</th><th scope="colgroup" colspan="3" class="group">FVU</th><th scope="colgroup" colspan="4" class="group">ablating single latents</th></tr>
            <tr>{Html.Join(s_columns.Select(Heading))}</tr></thead>
            <tbody>
            {Html.Join(rows.Select(s => Row(s.Item, s.Index)))}
            </tbody>
            </table>
            </div>
            """
        );
    }

    private static Html Heading(string name) => Html.Of($"""<th scope="col" class="n">{name}</th>""");

    private static Html Row(SaeResult sae, int index)
    {
        MetricDetails details = sae.Details;
        return Html.Of(
            $"""<tr><th scope="row">{ReportPage.Mark(index)}{sae.Sae}<small>{sae.Hook}</small></th>{Cell(sae.Metrics.LossRecovered, details.LossRecovered)}{Cell(details.Pca?.LossRecovered, details.Pca?.LossRecoveredInterval, Size(details.Pca, "directions"))}{Cell(details.Random?.LossRecovered, details.Random?.LossRecoveredInterval, Size(details.Random, "active"))}{Cell(details.AllHooks?.LossRecovered, details.AllHooks?.LossRecoveredInterval)}{Cell(sae.Metrics.Fvu, details.Fvu)}{Cell(details.Pca?.Fvu)}{Cell(details.Random?.Fvu)}{Cell(details.DirectEffect?.TopDrop)}{Cell(details.DirectEffect?.PredictedTopDrop)}{Cell(details.DirectEffect?.AnyDrop)}{Cell(details.DirectEffect?.Correlation)}</tr>"""
        );
    }

    private static string Size(BaselineResult? baseline, string unit) =>
        baseline is { } found ? $"{Numbers.Count(found.Size)} {unit}" : "";

    private static Html Cell(double? value, Interval? interval = null, string title = "") =>
        Html.Of(
            $"""<td class="n" title="{title}">{Numbers.Metric(value)}{(interval is { } found ? Html.Of($"<small>[{Numbers.Metric(found.Low)}, {Numbers.Metric(found.High)}]</small>") : Html.None)}</td>"""
        );

    private static Html Breakdown(SaeResult sae, int index) =>
        Html.Of(
            $"""
            <details class="panel breakdown"><summary>{ReportPage.Mark(
                index
            )}<strong>{sae.Sae}</strong> <span class="muted">{sae.Hook}: by what a token is, and by its position</span></summary>
            <div class="grid wide">
            {Groups("token", sae.Details.ByClass)}
            {Groups("position", sae.Details.ByPosition)}
            </div>
            </details>
            """
        );

    private static Html Groups(string heading, IReadOnlyList<TokenGroup> groups) =>
        groups.Count == 0
            ? Html.None
            : Html.Of(
                $"""
                <div class="scroll"><table><thead><tr><th scope="col">{heading}</th>{Html.Join(
                    s_groupColumns.Select(Heading)
                )}</tr></thead><tbody>
                {Html.Join(groups.Select(Group))}
                </tbody></table></div>
                """
            );

    private static Html Group(TokenGroup group) =>
        Html.Of(
            $"""<tr><th scope="row">{group.Name}</th><td class="n">{Numbers.Count(group.Tokens)}</td>{Html.Join(
                new[] { group.L0, group.Fvu, group.CeClean, group.CeSpliced, group.LossRecovered }.Select(value => Cell(value))
            )}</tr>"""
        );
}
