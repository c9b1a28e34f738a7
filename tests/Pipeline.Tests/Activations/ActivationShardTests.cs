using Apache.Arrow.Ipc;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Activations;

public class ActivationShardTests
{
    private static readonly ShardMetadata Metadata = new()
    {
        Model = "m",
        ModelHash = "h",
        Hook = "blocks.1.hook_resid_post",
        TokenizerHash = "t",
        Context = 8,
        Seed = 1,
        FirstToken = 0,
    };

    [Theory]
    [InlineData(ActivationDtype.Float32)]
    [InlineData(ActivationDtype.Float16)]
    public void Rows_come_back_as_they_were_written(ActivationDtype dtype)
    {
        using var folder = new TempFolder();
        string path = folder.File("shard.arrow");
        float[] values = [.. Enumerable.Range(0, 7 * 3).Select(i => MathF.Sin(i))];
        Write(path, dtype, values, [4, 3]);

        using var shard = ActivationShard.Open(path);
        var read = new float[values.Length];
        shard.CopyRows(0, 7, read);
        var middle = new float[3 * 3];
        shard.CopyRows(3, 3, middle); // crosses the batches

        float[] expected = dtype == ActivationDtype.Float16 ? [.. values.Select(v => (float)(Half)v)] : values;
        read.Should().Equal(expected);
        middle.Should().Equal(expected[9..18]);
        shard.Column("token").Should().Equal(0, 1, 2, 3, 4, 5, 6);
        shard.Column("position").Should().Equal(20, 21, 22, 23, 24, 25, 26);
        shard.Metadata["hook"].Should().Be("blocks.1.hook_resid_post");
    }

    [Fact]
    public void Any_Arrow_reader_opens_a_shard()
    {
        using var folder = new TempFolder();
        string path = folder.File("shard.arrow");
        Write(path, ActivationDtype.Float32, [1, 2, 3, 4, 5, 6], [2]);

        using var reader = new ArrowFileReader(File.OpenRead(path));
        var batch = reader.ReadNextRecordBatch();

        reader.Schema.FieldsList.Select(f => f.Name).Should().Equal("token", "document", "position", "activation");
        batch.Length.Should().Be(2);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(70_000f)]
    public void A_value_that_float16_cannot_hold_is_refused(float value)
    {
        using var folder = new TempFolder();
        string path = folder.File("shard.arrow");

        ((Action)(() => Write(path, ActivationDtype.Float16, [1, value, 2], [1])))
            .Should()
            .Throw<StageFailedException>()
            .Which.Message.Should()
            .Contain("blocks.1.hook_resid_post");
        File.Exists(path).Should().BeFalse();
    }

    [Fact]
    public void Every_truncation_is_a_typed_error_that_names_the_file()
    {
        using var folder = new TempFolder();
        string path = folder.File("shard.arrow");
        Write(path, ActivationDtype.Float32, [1, 2, 3, 4, 5, 6], [2]);
        byte[] bytes = File.ReadAllBytes(path);
        int endOfBatches = bytes.Length - BitConverter.ToInt32(bytes, bytes.Length - 10) - 10 - 8;
        string cut = folder.File("cut.arrow");
        for (int length = 0; length < endOfBatches; length++)
        {
            using (var stream = File.Create(cut))
            {
                stream.Write(bytes, 0, length);
            }
            try
            {
                using var shard = ActivationShard.Open(cut);
                shard.Rows.Should().Be(0, "a file cut at {0} of {1} holds no whole batch", length, bytes.Length);
            }
            catch (CorruptArtifactException e)
            {
                e.Message.Should().Contain("cut.arrow");
            }
        }
    }

    internal static void Write(string path, ActivationDtype dtype, float[] values, int[] batches)
    {
        int width = values.Length / batches.Sum();
        using var writer = new ActivationShardWriter(path, width, dtype, Metadata);
        int row = 0;
        foreach (int rows in batches)
        {
            int[] tokens = [.. Enumerable.Range(row, rows)];
            writer.Append(
                tokens,
                [.. tokens.Select(t => t + 10)],
                [.. tokens.Select(t => t + 20)],
                values.AsSpan(row * width, rows * width)
            );
            row += rows;
        }
        writer.Commit();
    }
}
