namespace Pipeline.Shared.Benchmarks;

/// <summary>The times of actions measured in turn.</summary>
/// <param name="Milliseconds">Of each turn each action's.</param>
public sealed record Turns(IReadOnlyList<double[]> Milliseconds)
{
    /// <summary>The median of an action's times.</summary>
    public double Median(int action) => Median(turn => turn[action]);

    /// <summary>
    /// The median of what each turn says by itself. Of a difference or a ratio of actions it is steadier than that of their
    /// medians: what slows the machine down for longer than a turn meets both.
    /// </summary>
    public double Median(Func<double[], double> ofTurn) =>
        Milliseconds.Select(ofTurn).Order().ElementAt(Milliseconds.Count / 2);
}
