using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Tests.Artifacts;

namespace Pipeline.Tests.Activations;

public sealed class ActivationCursorTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Every_epoch_draws_each_row_once_whatever_the_sizes() =>
        Prop.ForAll(
                Arb.From(
                    from rows in Gen.Choose(1, 300)
                    from block in Gen.Choose(1, 40)
                    from window in Gen.Choose(1, 120)
                    from seed in Gen.Choose(0, 1000)
                    select (rows, block, window, seed)
                ),
                sizes =>
                {
                    var order = new RowOrder(sizes.rows, (ulong)sizes.seed, "hook", sizes.block, sizes.window);
                    var drawn = Enumerable.Range(0, 3 * sizes.rows).Select(i => RowAt(order, i)).ToArray();
                    return drawn.Chunk(sizes.rows).All(epoch => epoch.Distinct().Count() == sizes.rows)
                        && drawn.All(row => row >= 0 && row < sizes.rows);
                }
            )
            .QuickCheckThrowOnFailure();

    [Fact]
    public void Epochs_seeds_and_hooks_each_have_their_own_order()
    {
        long[] Draw(ulong seed, string hook, int from)
        {
            var order = new RowOrder(500, seed, hook, 4, 64);
            return [.. Enumerable.Range(from, 500).Select(i => RowAt(order, i))];
        }

        long[][] orders = [Draw(1, "a", 0), Draw(1, "a", 500), Draw(2, "a", 0), Draw(1, "b", 0)];

        orders.Select(order => string.Join(' ', order)).Should().OnlyHaveUniqueItems();
        Draw(1, "a", 0).Should().Equal(orders[0]);
    }

    [Fact]
    public void Batches_hold_the_rows_they_name_in_the_same_order_for_every_batch_size_and_sharding()
    {
        using var one = Shards.Numbered(folder.Path, [333]);
        using var many = Shards.Numbered(folder.Path, [100, 1, 200, 32]);
        long[] expected = Draw(new ActivationCursor(one, 5, 8, 64), 1, 900);

        foreach (int batch in (int[])[2, 9, 64, 100, 900])
        {
            Draw(new ActivationCursor(one, 5, 8, 64), batch, 900).Should().Equal(expected);
            Draw(new ActivationCursor(many, 5, 8, 64), batch, 900).Should().Equal(expected);
        }
    }

    [Fact]
    public void Seek_goes_on_exactly_where_reading_would()
    {
        using var dataset = Shards.Numbered(folder.Path, [50, 47]);
        long[] expected = Draw(new ActivationCursor(dataset, 9, 8, 32), 1, 400);
        var sought = new ActivationCursor(dataset, 9, 8, 32);
        foreach (int at in (int[])[0, 396, 31, 32, 33, 96, 97, 98, 193, 194, 195, 5])
        {
            sought.Seek(at);
            Draw(sought, 4, 4).Should().Equal(expected[at..(at + 4)], $"{at} rows were drawn");
            sought.RowsDrawn.Should().Be(at + 4);
        }
    }

    [Fact]
    public void Prefetching_changes_neither_batches_nor_the_position()
    {
        using var dataset = Shards.Numbered(folder.Path, [150]);
        var plain = new ActivationCursor(dataset, 3, 8, 32);
        var ahead = new ActivationCursor(dataset, 3, 8, 32);
        plain.Seek(70);
        ahead.Seek(70);
        using var batches = new PrefetchingBatches([ahead], 16);
        batches.RowsDrawn.Should().Be(70);
        float[] expected = new float[16 * 2];
        for (int i = 0; i < 40; i++)
        {
            plain.NextBatch(expected);
            batches.Next()[0].data<float>().ToArray().Should().Equal(expected);
            batches.RowsDrawn.Should().Be(plain.RowsDrawn);
        }
        batches.Waited.Should().BePositive();
    }

    [Fact]
    public void Two_hooks_are_drawn_at_the_same_tokens()
    {
        using var inputs = Shards.Numbered(folder.Path, [100, 50]);
        using var targets = Shards.Numbered(folder.Path, [150], width: 3, hook: "blocks.1.hook_mlp_out");
        using var batches = new PrefetchingBatches(
            [new ActivationCursor(inputs, 3, 8, 32), new ActivationCursor(targets, 3, 8, 32, inputs.Hook)],
            16
        );
        for (int i = 0; i < 20; i++)
        {
            var batch = batches.Next();

            float[] rowsOfInputs = [.. batch[0].data<float>().ToArray().Chunk(2).Select(row => row[0])];
            batch[1].data<float>().ToArray().Should().Equal(rowsOfInputs.SelectMany(row => new[] { row, row, row }));
        }
    }

    [Theory]
    [InlineData(ActivationDtype.Float32)]
    [InlineData(ActivationDtype.Float16)]
    [InlineData(ActivationDtype.BFloat16)]
    [InlineData(ActivationDtype.Int8)]
    public void Drawing_widens_each_row_as_copying_does(ActivationDtype dtype)
    {
        const int D = 37;
        Shards.Write(folder["a.arrow"], dtype, Shards.Metadata(D), Shards.Values(200, D), rowsACall: 90);
        Shards.Write(folder["b.arrow"], dtype, Shards.Metadata(D, 200), Shards.Values(100, D, seed: 2));
        using var dataset = ActivationDataset.Open([folder["a.arrow"], folder["b.arrow"]]);
        var cursor = new ActivationCursor(dataset, 5, 8, 64);
        float[] drawn = new float[300 * D];
        long[] indices = new long[300];

        cursor.NextBatch(drawn, indices);

        float[] copied = new float[D];
        for (int i = 0; i < 300; i++)
        {
            dataset.CopyRows(indices[i], 1, copied);
            drawn.AsSpan(i * D, D).SequenceEqual(copied).Should().BeTrue();
        }
    }

    [Fact]
    public void A_cursor_whose_dataset_is_disposed_refuses_to_draw_on()
    {
        var dataset = Shards.Numbered(folder.Path, [150]);
        var cursor = new ActivationCursor(dataset, 3, 8, 32);
        cursor.NextBatch(new float[2 * 2]);
        dataset.Dispose();

        ((Action)(() => cursor.NextBatch(new float[2 * 2]))).Should().Throw<ObjectDisposedException>();
    }

    [Fact]
    public void What_reading_throws_reaches_the_caller_of_a_prefetcher()
    {
        var dataset = Shards.Numbered(folder.Path, [150]);
        dataset.Dispose();
        using var batches = new PrefetchingBatches([new ActivationCursor(dataset, 3, 8, 32)], 16);

        var next = () => batches.Next();

        next.Should().Throw<ObjectDisposedException>();
        next.Should().Throw<ObjectDisposedException>();
    }

    [Fact]
    public void A_harvest_folder_opens_by_its_manifest_and_damage_is_named()
    {
        var outputs = new List<ManifestOutput>();
        foreach (int i in (int[])[0, 1])
        {
            string name = $"blocks.1.hook_resid_post/shard-{i:D5}.arrow";
            var digest = Shards.Write(folder[name.Split('/')], ActivationDtype.Float32, Shards.Metadata(2, i), [i, i]);
            outputs.Add(ManifestOutput.Of(name, digest));
        }
        var open = () => ActivationDataset.OpenHarvest(folder.Path, "blocks.1.hook_resid_post");
        open.Should().Throw<CorruptArtifactException>().WithMessage("*manifest.json*no file*");
        Manifest.Write(folder.Path, Manifest.Create("harvest", [], [], outputs));

        using (var dataset = open())
        {
            (dataset.Rows, dataset.Width).Should().Be((2, 2));
        }
        ((Action)(() => ActivationDataset.OpenHarvest(folder.Path, "blocks.1")))
            .Should()
            .Throw<CorruptArtifactException>();
        string second = folder["blocks.1.hook_resid_post", "shard-00001.arrow"];
        byte[] bytes = File.ReadAllBytes(second);
        bytes[^200] ^= 1;
        TempFolder.Overwrite(second, bytes);
        open.Should().Throw<CorruptArtifactException>().WithMessage("*shard-00001.arrow*SHA-256*");
    }

    [Fact]
    public void Shards_of_different_hooks_or_stored_types_do_not_mix()
    {
        Shards.Write(folder["a.arrow"], ActivationDtype.Float32, Shards.Metadata(2), [1, 2]);
        Shards.Write(
            folder["b.arrow"],
            ActivationDtype.Float32,
            Shards.Metadata(2, 1, "blocks.2.hook_resid_post"),
            [1, 2]
        );

        var open = () => ActivationDataset.Open([folder["a.arrow"], folder["b.arrow"]]);

        open.Should().Throw<CorruptArtifactException>().WithMessage("*b.arrow: found blocks.2*");
        Shards.Write(folder["b.arrow"], ActivationDtype.Float16, Shards.Metadata(2, 1), [1, 2]);
        open.Should().Throw<CorruptArtifactException>().WithMessage("*b.arrow: found*float16*expected*float32*");
    }

    private static long RowAt(RowOrder order, long rowsDrawn)
    {
        var (epoch, window, place) = order.Locate(rowsDrawn);
        var rows = order.Window(epoch, window);
        int number = rows.Places[place];
        foreach (var (first, count) in rows.Ranges)
        {
            if (number < count)
            {
                return first + number;
            }
            number -= count;
        }
        throw new InvalidOperationException("the window has fewer rows than places");
    }

    private static long[] Draw(ActivationCursor cursor, int batch, int rows)
    {
        var drawn = new List<long>();
        float[] valuesBD = new float[batch * cursor.Width];
        long[] indicesB = new long[batch];
        while (drawn.Count < rows)
        {
            cursor.NextBatch(valuesBD, indicesB);
            for (int i = 0; i < batch; i++)
            {
                valuesBD[i * cursor.Width].Should().Be(indicesB[i]);
            }
            drawn.AddRange(indicesB);
        }
        return [.. drawn.Take(rows)];
    }
}
