using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Activations;

public class ActivationDatasetTests
{
    [Fact]
    public void An_epoch_is_every_row_once_in_another_order_than_on_disk()
    {
        using var folder = new TempFolder();
        string[] paths = Shards(folder, 40, 25);
        using var data = new ActivationDataset(paths, seed: 1, blockRows: 4, windowRows: 16);

        float[] first = Draw(data, 65);
        float[] second = Draw(data, 65);

        first.Order().Should().Equal(Enumerable.Range(0, 65).Select(i => (float)i));
        second.Order().Should().Equal(first.Order());
        first.Should().NotEqual(first.Order());
        second.Should().NotEqual(first);
    }

    [Fact]
    public void Rows_drawn_is_the_whole_state()
    {
        using var folder = new TempFolder();
        string[] paths = Shards(folder, 30, 7, 19);
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(0, 300).ToArbitrary(),
                Gen.Choose(1, 40).ToArbitrary(),
                (drawn, rows) =>
                {
                    using var whole = new ActivationDataset(paths, 7, 4, 16);
                    float[] expected = Draw(whole, drawn + rows)[drawn..];
                    using var resumed = new ActivationDataset(paths, 7, 4, 16, drawn);
                    return Draw(resumed, rows).AsSpan().SequenceEqual(expected);
                }
            )
        );
    }

    [Fact]
    public void The_order_does_not_depend_on_the_batch_size()
    {
        using var folder = new TempFolder();
        string[] paths = Shards(folder, 33, 20);
        using var whole = new ActivationDataset(paths, 3, 5, 12);
        using var parts = new ActivationDataset(paths, 3, 5, 12);

        float[] expected = Draw(whole, 140);
        float[] actual = [.. Enumerable.Range(0, 20).SelectMany(_ => Draw(parts, 7))];

        actual.Should().Equal(expected);
    }

    /// <summary>Rows of width 1 that hold their own index in the harvest.</summary>
    private static string[] Shards(TempFolder folder, params int[] rows)
    {
        int first = 0;
        var paths = new List<string>();
        foreach (int count in rows)
        {
            string path = folder.File($"shard-{paths.Count:D5}.arrow");
            float[] values = [.. Enumerable.Range(first, count).Select(i => (float)i)];
            ActivationShardTests.Write(path, ActivationDtype.Float32, values, [count - 3, 3]);
            paths.Add(path);
            first += count;
        }
        return [.. paths];
    }

    private static float[] Draw(ActivationDataset data, int rows)
    {
        var values = new float[rows];
        data.NextBatch(values);
        return values;
    }
}
