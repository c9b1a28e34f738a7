using System.Text.RegularExpressions;

namespace Pipeline.Shared.Configuration;

/// <summary>A pipeline file: what <c>sae run</c> makes of which text and model.</summary>
public sealed partial record PipelineConfig : IValidated
{
    /// <summary>Names the run's folder, runs/NAME.</summary>
    public required string Name { get; init; }

    /// <summary>Every random stream of the run derives from it.</summary>
    public ulong Seed { get; init; } = 42;

    /// <summary>A language model's folder in Hugging Face layout.</summary>
    [Remedy("Give it in the file or with --set model=FOLDER")]
    public required string Model { get; init; }

    /// <summary>A text source: *.jsonl, WikiExtractor files, *.txt, or a folder of one of these.</summary>
    [Remedy("Give it in the file or with --set text=PATH")]
    public required string Text { get; init; }

    public required HarvestConfig Harvest { get; init; }

    public required TrainConfig Train { get; init; }

    public EvaluateConfig Evaluate { get; init; } = new();

    public ReportConfig Report { get; init; } = new();

    public IEnumerable<Fault> Validate(string where)
    {
        if (!SafeName().IsMatch(Name))
        {
            yield return new Fault(
                $"{where}: name",
                $"'{Name}'",
                "letters, digits, '.', '_' and '-', beginning with a letter or digit",
                "Choose such a name"
            );
        }
        if (Harvest.Hooks.Count == 0)
        {
            yield return new Fault($"{where}: harvest.hooks", "an empty list", "at least one hook", "Add a hook");
        }
        if (Train.Saes.Count == 0)
        {
            yield return new Fault($"{where}: train.saes", "an empty list", "at least one SAE", "Add an SAE");
        }
    }

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    private static partial Regex SafeName();
}
