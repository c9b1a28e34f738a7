using System.Diagnostics;
using System.Globalization;
using Pipeline.Shared;
using Spectre.Console;

namespace Pipeline;

/// <summary>Progress on the console: bars on a terminal, a line every few seconds elsewhere.</summary>
internal static class ConsoleProgress
{
    /// <param name="work">Tells how far it is.</param>
    /// <param name="plain">Where plain lines go; null for the output.</param>
    public static void Run(Action<IProgressSink> work, TextWriter? plain = null)
    {
        if (!AnsiConsole.Profile.Capabilities.Interactive || Console.IsOutputRedirected)
        {
            work(new PlainLines(plain ?? Console.Out));
            return;
        }
        AnsiConsole
            .Progress()
            .Columns(
                new TaskDescriptionColumn { Alignment = Justify.Left },
                new ProgressBarColumn(),
                new PercentageColumn(),
                new RemainingTimeColumn()
            )
            .Start(context => work(new Bars(context)));
    }

    private static string Rate(double done, TimeSpan elapsed, string unit) =>
        elapsed.TotalSeconds < 0.5
            ? ""
            : string.Create(CultureInfo.InvariantCulture, $"{done / elapsed.TotalSeconds:N0} {unit}/s");

    private sealed class Bars(ProgressContext context) : IProgressSink
    {
        private readonly Dictionary<string, (ProgressTask Task, double First, Stopwatch Clock)> tasks = [];

        public void Update(string task, double done, double total, string unit, string detail)
        {
            if (!tasks.TryGetValue(task, out var entry))
            {
                entry = (context.AddTask(Markup.Escape(task)), done, Stopwatch.StartNew());
                tasks[task] = entry;
            }
            entry.Task.MaxValue = Math.Max(1, total);
            entry.Task.Value = done;
            string rate = Rate(done - entry.First, entry.Clock.Elapsed, unit);
            entry.Task.Description = Markup.Escape($"{task}  {rate}  {detail}".TrimEnd());
        }

        public void Say(string line) => AnsiConsole.WriteLine(line);
    }

    private sealed class PlainLines(TextWriter output) : IProgressSink
    {
        private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);
        private string current = "";
        private double first;
        private readonly Stopwatch clock = new();
        private readonly Stopwatch sinceLine = new();

        public void Update(string task, double done, double total, string unit, string detail)
        {
            if (task != current)
            {
                (current, first) = (task, done);
                clock.Restart();
                sinceLine.Restart();
            }
            if (done < total && sinceLine.Elapsed < Interval)
            {
                return;
            }
            sinceLine.Restart();
            double perSecond = (done - first) / Math.Max(clock.Elapsed.TotalSeconds, 1e-9);
            string left =
                done < total && perSecond > 0
                    ? $", {TimeSpan.FromSeconds((total - done) / perSecond):hh\\:mm\\:ss} left"
                    : "";
            string line = string.Create(
                CultureInfo.InvariantCulture,
                $"{task}: {done:N0} of {total:N0} {unit}, {Rate(done - first, clock.Elapsed, unit)}{left} {detail}"
            );
            output.WriteLine(line.TrimEnd());
        }

        public void Say(string line) => output.WriteLine(line);
    }
}
