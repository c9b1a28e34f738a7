using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Evaluate;

/// <summary>Into which groups tokens fall.</summary>
internal enum Grouping
{
    Position,
    Class,
    Document,
}

/// <summary>
/// Sums over tokens of a few columns, float64, for every group of every <see cref="Grouping"/>: each token counts in three.
/// Memory is columns x groups, of which the documents grow in number with the text.
/// </summary>
internal sealed class GroupedSums(int columns)
{
    private static readonly int Groupings = Enum.GetValues<Grouping>().Length;

    /// <summary>Of each grouping row-major [groups, columns], with room to grow.</summary>
    private readonly double[][] sums = [.. Enumerable.Range(0, Groupings).Select(_ => Array.Empty<double>())];
    private readonly int[] groups = new int[Groupings];

    /// <summary>Everything summed so far.</summary>
    public double[] State
    {
        get => [.. groups.Select(count => (double)count), .. sums.SelectMany((s, i) => s.Take(groups[i] * columns))];
        set
        {
            int at = Groupings;
            for (int i = 0; i < Groupings; i++)
            {
                groups[i] = (int)value[i];
                sums[i] = value[at..(at += groups[i] * columns)];
            }
        }
    }

    public void Add(TokenPlace place, ReadOnlySpan<double> values)
    {
        Add(Grouping.Position, place.Band, values);
        Add(Grouping.Class, (int)place.Class, values);
        Add(Grouping.Document, place.Document, values);
    }

    /// <summary>One group's sums, [columns]; zeros where no token fell into it.</summary>
    public ReadOnlySpan<double> Of(Grouping grouping, int group) =>
        group < groups[(int)grouping] ? sums[(int)grouping].AsSpan(group * columns, columns) : new double[columns];

    /// <summary>Sums over all tokens, or all but those of a class, [columns].</summary>
    public double[] Total(TokenClass? except = null)
    {
        var total = new double[columns];
        foreach (int group in Enumerable.Range(0, groups[(int)Grouping.Class]).Where(c => (TokenClass)c != except))
        {
            TensorPrimitives.Add(total, Of(Grouping.Class, group), total);
        }
        return total;
    }

    private void Add(Grouping grouping, int group, ReadOnlySpan<double> values)
    {
        ref double[] own = ref sums[(int)grouping];
        if (group >= groups[(int)grouping])
        {
            groups[(int)grouping] = group + 1;
            if (own.Length < (group + 1) * columns)
            {
                Array.Resize(ref own, Math.Max(2 * own.Length, (group + 1) * columns));
            }
        }
        var target = own.AsSpan(group * columns, columns);
        TensorPrimitives.Add(target, values, target);
    }
}
