namespace Pipeline.Shared.Configuration;

/// <summary>A configuration record that checks what single values cannot tell, such as how two fields fit.</summary>
public interface IValidated
{
    /// <summary>Every fault among the record's fields; none when it is sound.</summary>
    /// <param name="path">The record's own dotted path (<c>train.saes[0]</c>), empty for the root. Join keys to it with
    /// <see cref="ConfigPath.Join"/>: the reader adds file and line to each fault's <see cref="Fault.Where"/>.</param>
    IEnumerable<Fault> Validate(string path);
}
