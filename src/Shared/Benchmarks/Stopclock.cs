using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Benchmarks;

/// <summary>How every benchmark of this project measures: warm-up, repeats, median, and its bound in the same process.</summary>
public static class Stopclock
{
    /// <summary>Small work needs many repeats before the JIT has compiled it for good.</summary>
    private static readonly TimeSpan LeastWarmUp = TimeSpan.FromSeconds(1.5);

    /// <summary>Enough for what a process only reaches with time, such as large pages and the last of what the JIT does.</summary>
    private static readonly TimeSpan MostWarmUp = TimeSpan.FromSeconds(10);

    /// <summary>Median of the times <paramref name="action"/> takes after warm-up, milliseconds.</summary>
    public static double MedianMilliseconds(int repeats, Action action) => InTurn(repeats, [action]).Median(0);

    /// <summary>Medians of the times that two actions take in turn after warm-up, milliseconds.</summary>
    public static (double First, double Second) MedianMilliseconds(int repeats, Action first, Action second)
    {
        var turns = InTurn(repeats, [first, second]);
        return (turns.Median(0), turns.Median(1));
    }

    /// <summary>
    /// Actions measured in turn, so that what else the machine does meets them alike; each turn begins with the next of them,
    /// lest one always follow the same other. To warm up they have as many turns as are measured, as far as these take from 1.5 to
    /// 10 seconds; long work has one.
    /// </summary>
    /// <param name="repeats">Measured turns.</param>
    /// <param name="actions">What is measured.</param>
    /// <param name="before">Called before each action, outside of what is measured.</param>
    public static Turns InTurn(int repeats, Action[] actions, Action? before = null)
    {
        ArgumentNullException.ThrowIfNull(actions);
        double[] Turn(int first)
        {
            var times = new double[actions.Length];
            for (int i = 0; i < actions.Length; i++)
            {
                int action = (first + i) % actions.Length;
                before?.Invoke();
                times[action] = Time(actions[action]);
            }
            return times;
        }
        var warmUp = Stopwatch.StartNew();
        int warm = 0;
        do
        {
            _ = Turn(warm++);
        } while (warmUp.Elapsed < (warm < repeats ? MostWarmUp : LeastWarmUp));
        return new Turns([.. Enumerable.Range(0, repeats).Select(Turn)]);
    }

    /// <summary>The most memory this process has had resident so far, MiB.</summary>
    public static long PeakMegabytes => Process.GetCurrentProcess().PeakWorkingSet64 >> 20;

    public static double Time(Action action)
    {
        ArgumentNullException.ThrowIfNull(action);
        var clock = Stopwatch.StartNew();
        action();
        return clock.Elapsed.TotalMilliseconds;
    }

    /// <summary>The figures every benchmark ends with.</summary>
    /// <param name="shape">What was measured.</param>
    /// <param name="milliseconds">Median time.</param>
    /// <param name="bound">The time nothing can go below, measured in the same run.</param>
    /// <param name="parts">Further figures.</param>
    public static JsonObject Report(JsonObject shape, double milliseconds, double bound, JsonObject parts)
    {
        ArgumentNullException.ThrowIfNull(shape);
        ArgumentNullException.ThrowIfNull(parts);
        var report = new JsonObject();
        foreach (var (key, value) in shape)
        {
            report[key] = value?.DeepClone();
        }
        report["threads"] = TorchSharp.torch.get_num_threads();
        report["median_ms"] = Math.Round(milliseconds, 6);
        report["bound_ms"] = Math.Round(bound, 6);
        report["ratio"] = Math.Round(milliseconds / bound, 3);
        foreach (var (key, value) in parts)
        {
            report[key] =
                value is JsonValue number && number.TryGetValue(out double figure)
                    ? Math.Round(figure, 3)
                    : value?.DeepClone();
        }
        report["peak_rss_mb"] = PeakMegabytes;
        return report;
    }
}
