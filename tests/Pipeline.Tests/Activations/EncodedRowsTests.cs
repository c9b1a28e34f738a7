using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Activations;

public sealed class EncodedRowsTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<ActivationDtype, int> Dtypes()
    {
        var data = new TheoryData<ActivationDtype, int>();
        foreach (var dtype in Enum.GetValues<ActivationDtype>())
        {
            data.Add(dtype, 1);
            data.Add(dtype, 3);
        }
        return data;
    }

    /// <summary>In calls of more rows than a shard writes at a time, of as many, of fewer, and of none.</summary>
    [Theory]
    [MemberData(nameof(Dtypes))]
    public void Rows_encoded_before_they_are_appended_make_the_same_shard(ActivationDtype dtype, int threads)
    {
        const int D = 37;
        int[] calls = [4096, 5000, 0, 1, 4095, 4096, 9000, 77];
        float[] values = Shards.Values(calls.Sum(), D);
        var expected = Shards.Write(folder["a.arrow"], dtype, Shards.Metadata(D), values);

        FileDigest actual;
        var rows = new EncodedRows(dtype, D);
        using (var writer = new ActivationShardWriter(folder["b.arrow"], dtype, Shards.Metadata(D)))
        {
            int at = 0;
            foreach (int n in calls)
            {
                int[] tokens = [.. Enumerable.Range(at, n)];
                rows.Encode("hook", at, values.AsSpan(at * D, n * D), threads);
                writer.Append(tokens, [.. tokens.Select(t => t / 10)], [.. tokens.Select(t => t % 10)], rows);
                at += n;
            }
            actual = writer.Commit();
        }

        actual.Should().Be(expected);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Of_several_values_that_cannot_be_stored_the_first_is_named(int threads)
    {
        const int D = 256;
        float[] values = Shards.Values(4000, D);
        values[(3999 * D) + 1] = float.NaN;
        values[(2001 * D) + 7] = 65520;
        values[(2002 * D) + 3] = 1e6f;

        var encode = () => new EncodedRows(ActivationDtype.Float16, D).Encode("hook", 1000, values, threads);

        encode
            .Should()
            .Throw<StageFailedException>()
            .WithMessage("hook: row 3001, value 7*65520*at most 65504*dtype: float32*");
    }

    [Fact]
    public void Memory_is_taken_again_after_rows_that_were_refused()
    {
        const int D = 4;
        float[] values = Shards.Values(20, D);
        var rows = new EncodedRows(ActivationDtype.Float16, D);
        var refused = () => rows.Encode("hook", 0, Enumerable.Repeat(float.NaN, 400).ToArray(), threads: 2);
        refused.Should().Throw<StageFailedException>();

        rows.Encode("hook", 0, values, threads: 2);

        int[] numbers = [.. Enumerable.Range(0, 20)];
        using var writer = new ActivationShardWriter(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(D));
        writer.Append(numbers, [.. numbers.Select(t => t / 10)], [.. numbers.Select(t => t % 10)], rows);
        writer
            .Commit()
            .Should()
            .Be(Shards.Write(folder["b.arrow"], ActivationDtype.Float16, Shards.Metadata(D), values));
    }

    [Theory]
    [InlineData(ActivationDtype.Float16, 5, 20)]
    [InlineData(ActivationDtype.BFloat16, 4, 20)]
    [InlineData(ActivationDtype.Float16, 4, 19)]
    public void Rows_of_another_type_width_or_number_are_refused(ActivationDtype dtype, int width, int count)
    {
        var rows = new EncodedRows(dtype, width);
        rows.Encode("hook", 0, Shards.Values(count, width), threads: 1);
        int[] numbers = new int[20];
        using var writer = new ActivationShardWriter(folder["a.arrow"], ActivationDtype.Float16, Shards.Metadata(4));

        var append = () => writer.Append(numbers, numbers, numbers, rows);

        append.Should().Throw<ArgumentException>().WithMessage("20 tokens need *");
    }

    [Fact]
    public void Values_that_are_no_whole_rows_are_refused()
    {
        var encode = () => new EncodedRows(ActivationDtype.Float16, 4).Encode("hook", 0, new float[7], threads: 1);

        encode.Should().Throw<ArgumentException>().WithMessage("7 values are no rows of 4*");
    }
}
