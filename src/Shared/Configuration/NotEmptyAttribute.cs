using System.Collections;

namespace Pipeline.Shared.Configuration;

/// <summary>A list of one item or more.</summary>
public sealed class NotEmptyAttribute : ValueRuleAttribute
{
    public override string Expected => "a list of at least one item";

    public override bool Holds(object value) => value is not ICollection { Count: 0 };
}
