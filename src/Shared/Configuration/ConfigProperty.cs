using System.Reflection;
using System.Runtime.CompilerServices;

namespace Pipeline.Shared.Configuration;

/// <summary>One settable property of a configuration record, as the binder and the writer see it.</summary>
internal sealed class ConfigProperty
{
    private readonly PropertyInfo property;

    public ConfigProperty(PropertyInfo property, NullabilityInfoContext nullability)
    {
        this.property = property;
        Key = Spelling.Key(property.Name);
        Type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        AllowsNull = nullability.Create(property).WriteState is NullabilityState.Nullable;
        IsRequired = property.IsDefined(typeof(RequiredMemberAttribute));
        Rules = [.. property.GetCustomAttributes<ValueRuleAttribute>()];
        UsedWhen = [.. property.GetCustomAttributes<UsedWhenAttribute>()];
        SweepKey = property.GetCustomAttribute<SweptAttribute>()?.Key;
        MissingRemedy = property.GetCustomAttribute<RemedyAttribute>()?.Remedy;
    }

    public string Key { get; }

    /// <summary>The value's type, without <see cref="Nullable{T}"/>.</summary>
    public Type Type { get; }

    public bool AllowsNull { get; }

    public bool IsRequired { get; }

    public IReadOnlyList<ValueRuleAttribute> Rules { get; }

    public IReadOnlyList<UsedWhenAttribute> UsedWhen { get; }

    /// <summary>The key whose combinations are added to this list, or null.</summary>
    public string? SweepKey { get; }

    public string? MissingRemedy { get; }

    public object? Get(object record) => property.GetValue(record);

    public void Set(object record, object? value) => property.SetValue(record, value);

    /// <summary>The properties of a record type in the order they are declared, which is the order they are
    /// written.</summary>
    public static IReadOnlyList<ConfigProperty> Of(Type record)
    {
        var nullability = new NullabilityInfoContext();
        return
        [
            .. record
                .GetProperties(BindingFlags.Public | BindingFlags.Instance)
                .Where(property => property.CanWrite)
                .OrderBy(property => property.MetadataToken)
                .Select(property => new ConfigProperty(property, nullability)),
        ];
    }
}
