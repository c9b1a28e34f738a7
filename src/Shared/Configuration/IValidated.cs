namespace Pipeline.Shared.Configuration;

/// <summary>A record with rules that join several of its properties.</summary>
public interface IValidated
{
    /// <param name="where">File and path of this record, the beginning of every fault's place.</param>
    IEnumerable<Fault> Validate(string where);
}
