using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Train.Pretraining;

PretrainStage.Run(
    YamlConfiguration.Load<PretrainConfig>(args[1], args[2..].Where(a => a != "--set").ToArray()),
    new Lines(),
    default
);

internal sealed class Lines : IProgressSink
{
    private long last;

    public void Update(string task, double done, double total, string unit, string detail)
    {
        if (Environment.TickCount64 - last < 2000)
            return;
        last = Environment.TickCount64;
        Console.WriteLine($"{TimeProvider.System.GetUtcNow():HH:mm:ss} {task} {done:N0}/{total:N0} {unit} {detail}");
    }

    public void Say(string line) => Console.WriteLine(line);
}
