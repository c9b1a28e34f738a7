using System.Reflection;

namespace Pipeline.Shared.Configuration;

/// <summary>
/// A key that means something only beside certain values of another key, null standing for one that is not given. Elsewhere
/// it is refused, and left out of a sweep's combinations.
/// </summary>
/// <param name="property">The other property's name; an enum.</param>
/// <param name="values">The values beside which the key is used.</param>
[AttributeUsage(AttributeTargets.Property, AllowMultiple = true)]
public sealed class UsedWhenAttribute(string property, params object?[] values) : Attribute
{
    /// <summary>The other key.</summary>
    public string Key => Spelling.Key(property);

    /// <summary>Whether the key is used beside <paramref name="value"/> of the other.</summary>
    public bool Includes(Enum? value) => values.Contains(value);

    /// <summary>The other property's value in a record.</summary>
    internal Enum? ValueIn(object record) => (Enum?)PropertyOf(record.GetType()).GetValue(record);

    /// <summary>The other property's type in records of a type.</summary>
    internal Type EnumIn(Type record)
    {
        var type = PropertyOf(record).PropertyType;
        return Nullable.GetUnderlyingType(type) ?? type;
    }

    private PropertyInfo PropertyOf(Type record) => record.GetProperty(property)!;
}
