namespace Pipeline.Shared;

/// <summary>Nobody watches.</summary>
public sealed class NoProgress : IProgressSink
{
    public void Update(string task, double done, double total, string unit, string detail = "") { }

    public void Say(string line) { }
}
