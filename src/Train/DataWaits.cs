using System.Text.Json.Nodes;

namespace Pipeline.Train;

/// <summary>How long a pass over activations waited for them, in this process: a matter of the machine, not of the result.</summary>
/// <param name="Waited">Until a batch was there.</param>
/// <param name="Total">The pass's steps and those waits.</param>
internal readonly record struct DataWaits(TimeSpan Waited, TimeSpan Total)
{
    /// <summary>{seconds, of_seconds, share}; the share is 0 where nothing was left to learn.</summary>
    public JsonObject ToJson() =>
        new()
        {
            ["seconds"] = Math.Round(Waited.TotalSeconds, 3),
            ["of_seconds"] = Math.Round(Total.TotalSeconds, 3),
            ["share"] = Total > TimeSpan.Zero ? Math.Round(Waited / Total, 5) : 0,
        };
}
