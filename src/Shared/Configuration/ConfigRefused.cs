namespace Pipeline.Shared.Configuration;

/// <summary>Stands where something was refused whose fault has been added already, so that it makes no second
/// one.</summary>
internal sealed class ConfigRefused(long line, string? given) : ConfigNode(line, given)
{
    public override string Described => "what was refused";
}
