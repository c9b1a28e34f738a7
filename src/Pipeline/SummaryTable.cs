using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Shared.Artifacts;
using Spectre.Console;

namespace Pipeline;

/// <summary>The figures of every evaluated SAE, as a table on the console.</summary>
internal static class SummaryTable
{
    private static readonly (string Header, string Key, string Format)[] Columns =
    [
        ("L0", "l0", "F1"),
        ("FVU", "fvu", "F4"),
        ("cosine", "cosine", "F4"),
        ("CE clean", "ce_clean", "F4"),
        ("CE spliced", "ce_spliced", "F4"),
        ("CE zero", "ce_zero", "F4"),
        ("loss recovered", "loss_recovered", "F4"),
        ("dead", "dead_fraction", "F4"),
    ];

    public static void Print(StageGraph graph)
    {
        var table = new Table().Border(TableBorder.Simple).AddColumn("hook").AddColumn("SAE");
        foreach (var (header, _, _) in Columns)
        {
            table.AddColumn(new TableColumn(header).RightAligned());
        }
        foreach (var sae in graph.Saes.Where(sae => sae.Evaluate.State == StageState.UpToDate))
        {
            string path = Path.Combine(sae.Evaluate.Path, EvaluateStage.MetricsName);
            var metrics = JsonNode.Parse(File.ReadAllText(path))!;
            string[] figures =
            [
                .. Columns.Select(c =>
                    metrics[c.Key]!.GetValue<double>().ToString(c.Format, CultureInfo.InvariantCulture)
                ),
            ];
            table.AddRow([sae.Hook.ToString(), Path.GetFileName(sae.Evaluate.Path), .. figures]);
        }
        if (table.Rows.Count > 0)
        {
            var console = AnsiConsole.Create(new AnsiConsoleSettings());
            if (Console.IsOutputRedirected)
            {
                console.Profile.Width = 160; // a file has no width to fit into
            }
            console.Write(table);
        }
    }
}
