using System.Text;

namespace Pipeline.Shared.Configuration;

/// <summary>Collects the faults of one source, so that all of them are reported at once.</summary>
/// <param name="source">What was read, as messages name it.</param>
public sealed class FaultList(string source)
{
    // A hostile file can hold a fault every few bytes; nobody reads more than this.
    private const int MostListed = 100;

    private readonly List<Fault> listed = [];

    /// <summary>How many faults were added, listed or not.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a fault; beyond the first hundred only their number is kept.</summary>
    public void Add(Fault fault)
    {
        Count++;
        if (listed.Count < MostListed)
        {
            listed.Add(fault);
        }
    }

    public void AddRange(IEnumerable<Fault> faults)
    {
        foreach (Fault fault in faults)
        {
            Add(fault);
        }
    }

    /// <summary>Ends with every fault in one message.</summary>
    /// <exception cref="ConfigurationException">At least one fault was added.</exception>
    public void ThrowIfAny()
    {
        if (Count == 0)
        {
            return;
        }
        if (Count == 1)
        {
            throw new ConfigurationException(listed[0].ToString());
        }
        var message = new StringBuilder().Append(source).Append(": ").Append(Count).Append(" faults.");
        foreach (Fault fault in listed)
        {
            message.Append('\n').Append("- ").Append(fault);
        }
        if (Count > listed.Count)
        {
            message.Append('\n').Append("- and ").Append(Count - listed.Count).Append(" more.");
        }
        throw new ConfigurationException(message.ToString());
    }
}
