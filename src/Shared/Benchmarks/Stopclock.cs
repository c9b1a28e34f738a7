using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Benchmarks;

/// <summary>How every benchmark of this project measures: warm-up, repeats, median, and its bound in the same process.</summary>
public static class Stopclock
{
    private const int WarmUps = 2;

    /// <summary>Small work needs many repeats before the JIT has compiled it for good.</summary>
    private static readonly TimeSpan WarmUpTime = TimeSpan.FromSeconds(1.5);

    /// <summary>Median of the times <paramref name="action"/> takes after warm-up, milliseconds.</summary>
    public static double MedianMilliseconds(int repeats, Action action)
    {
        var warmUp = Stopwatch.StartNew();
        for (int i = 0; i < WarmUps || warmUp.Elapsed < WarmUpTime; i++)
        {
            action();
        }
        return Median(Enumerable.Range(0, repeats).Select(_ => Time(action)));
    }

    /// <inheritdoc cref="MediansMilliseconds"/>
    public static (double First, double Second) MedianMilliseconds(int repeats, Action first, Action second) =>
        MediansMilliseconds(repeats, first, second) is [var firstMedian, var secondMedian]
            ? (firstMedian, secondMedian)
            : throw new InvalidOperationException("Two actions have two medians.");

    /// <summary>
    /// Medians of actions measured in turn, so that what else the machine does meets them alike; long work has one run each
    /// to warm up.
    /// </summary>
    public static double[] MediansMilliseconds(int repeats, params Action[] actions) =>
        MediansMillisecondsAfter(() => { }, repeats, actions);

    /// <inheritdoc cref="MediansMilliseconds"/>
    /// <param name="before">Called before each action, outside of what is measured.</param>
    /// <param name="repeats">Measured turns.</param>
    /// <param name="actions">What is measured.</param>
    public static double[] MediansMillisecondsAfter(Action before, int repeats, params Action[] actions)
    {
        ArgumentNullException.ThrowIfNull(actions);
        double TimeOf(Action action)
        {
            before();
            return Time(action);
        }
        var warmUp = Stopwatch.StartNew();
        do
        {
            Array.ForEach(actions, action => TimeOf(action));
        } while (warmUp.Elapsed < WarmUpTime);
        var times = Enumerable.Range(0, repeats).Select(_ => Array.ConvertAll(actions, TimeOf)).ToList();
        return [.. actions.Select((_, i) => Median(times.Select(turn => turn[i])))];
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

    private static double Median(IEnumerable<double> times)
    {
        var sorted = times.Order().ToList();
        return sorted[sorted.Count / 2];
    }
}
