using Apache.Arrow;
using Apache.Arrow.Ipc;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;
using Pipeline.Tests.Artifacts;

namespace Pipeline.Tests.Activations;

public sealed class ActivationShardTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(ActivationDtype.Float32, 1, 1)]
    [InlineData(ActivationDtype.Float32, 9001, 7)]
    [InlineData(ActivationDtype.Float16, 9001, 7)]
    [InlineData(ActivationDtype.Float16, 3000, 1024)]
    [InlineData(ActivationDtype.BFloat16, 9001, 7)]
    [InlineData(ActivationDtype.BFloat16, 3000, 1024)]
    [InlineData(ActivationDtype.Int8, 9001, 7)]
    [InlineData(ActivationDtype.Int8, 3000, 1024)]
    public void Rows_come_back_exactly_as_their_stored_type_holds_them(ActivationDtype dtype, int rows, int d)
    {
        float[] values = Shards.Values(rows, d);
        var digest = Shards.Write(folder["a.arrow"], dtype, Shards.Metadata(d, 77), values);

        using var shard = ActivationShard.Open(folder["a.arrow"], digest);

        (shard.Rows, shard.Width, shard.Dtype).Should().Be((rows, d, dtype));
        shard.Metadata.Should().Be(Shards.Metadata(d, 77));
        shard.Tokens.ToArray().Should().Equal(Enumerable.Range(0, rows));
        shard.Documents.ToArray().Should().Equal(Enumerable.Range(0, rows).Select(r => r / 10));
        shard.Positions.ToArray().Should().Equal(Enumerable.Range(0, rows).Select(r => r % 10));
        float[] expected = Shards.AsStored(values, d, dtype);
        float[] all = new float[values.Length];
        shard.CopyRows(0, rows, all);
        all.AsSpan().SequenceEqual(expected).Should().BeTrue();
        float[] last = new float[d];
        shard.CopyRow(rows - 1, last);
        last.Should().Equal(expected[^d..]);
    }

    [Theory]
    [InlineData(ActivationDtype.Float32)]
    [InlineData(ActivationDtype.Float16)]
    [InlineData(ActivationDtype.BFloat16)]
    [InlineData(ActivationDtype.Int8)]
    public void The_bytes_do_not_depend_on_how_rows_are_divided_among_calls(ActivationDtype dtype)
    {
        float[] values = Shards.Values(5000, 3);

        var whole = Shards.Write(folder["a.arrow"], dtype, Shards.Metadata(3), values);
        var pieces = Shards.Write(folder["b.arrow"], dtype, Shards.Metadata(3), values, rowsACall: 37);

        pieces.Should().Be(whole);
    }

    [Fact]
    public void Arrows_own_file_reader_reads_a_shard()
    {
        float[] values = Shards.Values(5000, 3);
        Shards.Write(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(3), values);

        using var stream = File.OpenRead(folder["a.arrow"]);
        using var reader = new ArrowFileReader(stream);
        var read = new List<float>();
        while (reader.ReadNextRecordBatch() is { } batch)
        {
            var list = (FixedSizeListArray)batch.Column("activation");
            foreach (var value in ((HalfFloatArray)list.Values).Values)
            {
                read.Add((float)value);
            }
        }

        read.Should().Equal(values.Select(x => (float)(Half)x));
        reader.Schema.Metadata["hook"].Should().Be("blocks.1.hook_resid_post");
        reader.Schema.Metadata["d_model"].Should().Be("3");
    }

    [Theory]
    [InlineData(ActivationDtype.Float16, 65520f, "dtype: float32")]
    [InlineData(ActivationDtype.Float16, -1e6f, "dtype: float32")]
    [InlineData(ActivationDtype.Float16, float.NaN, "NaN")]
    [InlineData(ActivationDtype.Float32, float.NegativeInfinity, "-Infinity")]
    [InlineData(ActivationDtype.Float32, float.NaN, "NaN")]
    [InlineData(ActivationDtype.BFloat16, float.MaxValue, "dtype: float32")]
    [InlineData(ActivationDtype.Int8, float.NaN, "NaN")]
    public void Values_the_type_cannot_hold_are_refused_by_place(ActivationDtype dtype, float value, string named)
    {
        float[] values = Shards.Values(20, 4);
        values[(13 * 4) + 2] = value;

        var write = () => Shards.Write(folder["a.arrow"], dtype, Shards.Metadata(4, first: 100), values, rowsACall: 5);

        write
            .Should()
            .Throw<StageFailedException>()
            .WithMessage($"blocks.1.hook_resid_post: row 113, value 2*{named}*");
        Directory.EnumerateFileSystemEntries(folder.Path).Should().BeEmpty();
    }

    [Fact]
    public void Float16s_largest_value_is_kept()
    {
        Shards.Write(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(2), [65504, -65504]);

        using var shard = ActivationShard.Open(folder["a.arrow"]);
        float[] row = new float[2];
        shard.CopyRow(0, row);

        row.Should().Equal(65504, -65504);
    }

    [Fact]
    public void An_int8_value_is_off_by_at_most_half_a_step_of_its_row()
    {
        const int D = 96;
        float[] values = Shards.Values(200, D);
        for (int i = 0; i < D; i++)
        {
            values[i] = 0;
            values[D + i] *= 1e-40f;
            values[(2 * D) + i] *= 1e30f;
        }
        Shards.Write(folder["a.arrow"], ActivationDtype.Int8, Shards.Metadata(D), values);

        using var shard = ActivationShard.Open(folder["a.arrow"]);
        float[] row = new float[D];
        for (int r = 0; r < shard.Rows; r++)
        {
            shard.CopyRow(r, row);
            float[] exact = values[(r * D)..((r + 1) * D)];
            float half = exact.Max(Math.Abs) / 127 / 2;
            row.Zip(exact, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThanOrEqualTo((half * 1.001f) + 1e-37f);
        }
    }

    [Fact]
    public void Every_truncation_is_a_corrupt_artifact_with_and_without_a_digest()
    {
        var digest = Shards.Write(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(2), Shards.Values(9, 2));
        byte[] bytes = File.ReadAllBytes(folder["a.arrow"]);
        string cut = folder["cut.arrow"];
        for (int length = 0; length < bytes.Length; length++)
        {
            TempFolder.Overwrite(cut, bytes.AsSpan(0, length));
            foreach (var expected in new[] { digest, null })
            {
                var open = () => ActivationShard.Open(cut, expected);
                open.Should().Throw<CorruptArtifactException>($"{length} bytes are left").WithMessage($"{cut}*");
            }
        }
    }

    [Fact]
    public void Every_flipped_byte_is_noticed_by_the_digest()
    {
        var digest = Shards.Write(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(2), Shards.Values(9, 2));
        byte[] bytes = File.ReadAllBytes(folder["a.arrow"]);
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] ^= 1;
            TempFolder.Overwrite(folder["bad.arrow"], bytes);
            bytes[i] ^= 1;
            var open = () => ActivationShard.Open(folder["bad.arrow"], digest);
            open.Should().Throw<CorruptArtifactException>();
        }
    }

    [Fact]
    public void Damage_crashes_nothing_even_without_a_digest()
    {
        Shards.Write(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(2), Shards.Values(9, 2));
        byte[] bytes = File.ReadAllBytes(folder["a.arrow"]);
        // Numbers that send an unchecked offset or length far outside, and small ones that stay near.
        foreach (int damage in (int[])[int.MaxValue, -0x40000000, 4096])
        {
            for (int i = 0; i + 4 <= bytes.Length; i += 4)
            {
                byte[] damaged = [.. bytes];
                BitConverter.TryWriteBytes(damaged.AsSpan(i), damage);
                TempFolder.Overwrite(folder["bad.arrow"], damaged);
                try
                {
                    using var shard = ActivationShard.Open(folder["bad.arrow"]);
                    shard.CopyRows(0, shard.Rows, new float[shard.Rows * shard.Width]);
                    _ = shard.Tokens.Length + shard.Documents.Length + shard.Positions.Length;
                }
                catch (CorruptArtifactException) { }
            }
        }
    }

    [Fact]
    public void A_missing_file_and_another_arrow_file_are_corrupt_artifacts()
    {
        var missing = () => ActivationShard.Open(folder["none.arrow"]);
        missing.Should().Throw<CorruptArtifactException>().WithMessage("*none.arrow: found no file*");

        using (var stream = File.Create(folder["other.arrow"]))
        {
            var numbers = new Int32Array.Builder().Append(1).Build();
            using var batch = new RecordBatch.Builder().Append("x", false, numbers).Build();
            using var writer = new ArrowFileWriter(stream, batch.Schema);
            writer.WriteRecordBatch(batch);
            writer.WriteEnd();
        }
        var other = () => ActivationShard.Open(folder["other.arrow"]);
        other.Should().Throw<CorruptArtifactException>().WithMessage("*other.arrow*");
    }

    [Fact]
    public void A_disposed_shard_refuses_to_read()
    {
        Shards.Write(folder["a.arrow"], ActivationDtype.Float32, Shards.Metadata(2), [1, 2]);
        var shard = ActivationShard.Open(folder["a.arrow"]);
        shard.Dispose();
        shard.Dispose();

        ((Action)(() => shard.CopyRow(0, new float[2]))).Should().Throw<ObjectDisposedException>();
    }
}
