using System.Runtime.Intrinsics;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

/// <summary>Products of packed weights against sums in double precision.</summary>
public sealed unsafe class PackedWeightsTests
{
    private const int MostRows = 13; // two whole blocks of rows and a rest
    private const float Guard = 12345;

    private static readonly int[] Inputs = [1, 15, 16, 31, 511, 512, 513, 1100];
    private static readonly int[] Outputs = [1, 17, 63, 64, 65, 130];

    public PackedWeightsTests() =>
        Assert.SkipUnless(
            Vector512.IsHardwareAccelerated,
            "This processor has no 512-bit vectors; tensors do the work."
        );

    /// <summary>Inputs and outputs on both sides of a vector, a panel and the inputs summed at a time.</summary>
    public static TheoryData<int, int> Shapes =>
        [.. from inputs in Inputs from outputs in Outputs select (inputs, outputs)];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void A_product_is_that_of_doubles_and_writes_nothing_beside_it(int inputs, int outputs)
    {
        var random = new Xoshiro256((ulong)((inputs * 1000) + outputs));
        float[] weightOI = Normal(random, outputs * inputs);
        float[] biasO = Normal(random, outputs);
        float[] xNI = Normal(random, MostRows * inputs);
        foreach (float[]? bias in new[] { null, biasO })
        {
            var (expectedNO, scaleNO) = Product(xNI, weightOI, bias, inputs, outputs);
            float[]? wholeNO = null;
            for (int rows = MostRows; rows >= 1; rows--)
            {
                float[] actualNO = Multiply(xNI, weightOI, bias, inputs, outputs, rows);

                actualNO.Select((y, i) => Math.Abs(y - expectedNO[i]) / scaleNO[i]).Max().Should().BeLessThan(1e-6);
                // Whatever rows lie beside it, a row is the same to the bit.
                wholeNO ??= actualNO;
                actualNO.AsSpan().SequenceEqual(wholeNO.AsSpan(0, rows * outputs)).Should().BeTrue();
            }
        }
    }

    [Theory]
    [InlineData(31, 130)]
    [InlineData(513, 200)]
    public void The_number_of_threads_that_pack_changes_no_bit(int inputs, int outputs)
    {
        var random = new Xoshiro256(5);
        float[] weightOI = Normal(random, outputs * inputs);
        float[] biasO = Normal(random, outputs);
        float[] xNI = Normal(random, MostRows * inputs);

        float[] alone = Multiply(xNI, weightOI, biasO, inputs, outputs, MostRows, threads: 1);
        float[] shared = Multiply(xNI, weightOI, biasO, inputs, outputs, MostRows, threads: 3);

        shared.Should().Equal(alone);
    }

    [Theory]
    [InlineData(31, 64)]
    [InlineData(513, 65)]
    public void What_is_not_finite_stays_in_its_row(int inputs, int outputs)
    {
        var random = new Xoshiro256(6);
        float[] weightOI = Normal(random, outputs * inputs);
        float[] xNI = Normal(random, MostRows * inputs);
        float[] cleanNO = Multiply(xNI, weightOI, null, inputs, outputs, MostRows);
        var spoilt = new Dictionary<int, float>
        {
            [2] = float.NaN,
            [7] = float.PositiveInfinity,
            [12] = float.NegativeInfinity,
        };
        foreach (var (row, value) in spoilt)
        {
            xNI[(row * inputs) + (inputs - 1)] = value;
        }

        float[] actualNO = Multiply(xNI, weightOI, null, inputs, outputs, MostRows);

        for (int row = 0; row < MostRows; row++)
        {
            float[] actualO = actualNO[(row * outputs)..((row + 1) * outputs)];
            if (!spoilt.TryGetValue(row, out float value))
            {
                actualO.Should().Equal(cleanNO[(row * outputs)..((row + 1) * outputs)]);
            }
            else if (float.IsNaN(value))
            {
                actualO.Should().OnlyContain(y => float.IsNaN(y));
            }
            else
            {
                actualO.Should().OnlyContain(y => float.IsInfinity(y));
            }
        }
    }

    /// <summary>Stretches of the weights' columns, as they lie among the others, give the sums of all of them at once.</summary>
    [Theory]
    [InlineData(513, 65)]
    [InlineData(1100, 130)]
    public void Products_of_stretches_of_the_inputs_add_up_to_the_same_bits(int inputs, int outputs)
    {
        var random = new Xoshiro256(7);
        float[] weightOI = Normal(random, outputs * inputs);
        float[] biasO = Normal(random, outputs);
        float[] xNI = Normal(random, MostRows * inputs);
        var sumsNO = new float[MostRows * outputs];
        for (int start = 0; start < inputs; start += PackedWeights.Depth)
        {
            int stretch = Math.Min(PackedWeights.Depth, inputs - start);
            using var memory = new AlignedMemory<float>(PackedWeights.Length(stretch, outputs));
            fixed (
                float* x = xNI,
                    weight = weightOI,
                    bias = biasO,
                    y = sumsNO
            )
            {
                PackedWeights
                    .Pack(weight + start, inputs, bias, stretch, outputs, memory.Pointer, threads: 2)
                    .Multiply(x + start, inputs, y, outputs, MostRows, add: start > 0);
            }
        }

        sumsNO.Should().Equal(Multiply(xNI, weightOI, biasO, inputs, outputs, MostRows));
    }

    /// <summary>
    /// The product [N, O] of the first rows, from memory that held NaN, out of rows with NaN between them, and into rows
    /// with guards around them.
    /// </summary>
    private static float[] Multiply(
        float[] xNI,
        float[] weightOI,
        float[]? biasO,
        int inputs,
        int outputs,
        int rows,
        int threads = 2
    )
    {
        const int Before = 7;
        const int Behind = 64;
        var (xStep, yStep) = (inputs + 3, outputs + 5);
        var x = new float[MostRows * xStep];
        Array.Fill(x, float.NaN);
        for (int row = 0; row < rows; row++)
        {
            Array.Copy(xNI, row * inputs, x, row * xStep, inputs);
        }
        var y = new float[Before + (MostRows * yStep) + Behind];
        Array.Fill(y, Guard);
        int length = (int)PackedWeights.Length(inputs, outputs);
        using var memory = new AlignedMemory<float>(length + Behind);
        var packed = new Span<float>(memory.Pointer, length + Behind);
        packed.Fill(float.NaN);
        packed[length..].Fill(Guard);

        fixed (
            float* source = x,
                target = y,
                weight = weightOI,
                bias = biasO
        )
        {
            PackedWeights
                .Pack(weight, inputs, bias, inputs, outputs, memory.Pointer, threads)
                .Multiply(source, xStep, target + Before, yStep, rows);
        }

        packed[length..].ContainsAnyExcept(Guard).Should().BeFalse();
        var product = new float[rows * outputs];
        for (int row = 0; row < rows; row++)
        {
            var written = y.AsSpan(Before + (row * yStep), outputs);
            written.CopyTo(product.AsSpan(row * outputs));
            written.Fill(Guard);
        }
        y.AsSpan().ContainsAnyExcept(Guard).Should().BeFalse();
        return product;
    }

    /// <summary>The product in double precision, and the sum of its terms' sizes, which rounding is measured by.</summary>
    private static (double[] ProductNO, double[] ScaleNO) Product(
        float[] xNI,
        float[] weightOI,
        float[]? biasO,
        int inputs,
        int outputs
    )
    {
        var productNO = new double[MostRows * outputs];
        var scaleNO = new double[MostRows * outputs];
        for (int i = 0; i < productNO.Length; i++)
        {
            var (row, output) = (i / outputs, i % outputs);
            productNO[i] = biasO?[output] ?? 0;
            scaleNO[i] = Math.Abs(productNO[i]);
            for (int input = 0; input < inputs; input++)
            {
                double term = xNI[(row * inputs) + input] * (double)weightOI[(output * inputs) + input];
                productNO[i] += term;
                scaleNO[i] += Math.Abs(term);
            }
        }
        return (productNO, scaleNO);
    }

    private static float[] Normal(Xoshiro256 random, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => (float)random.NextGaussian())];
}
