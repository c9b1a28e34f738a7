using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Tests.Kernels;

/// <summary>Screening against what float32 scores of all latents give.</summary>
public unsafe class EncoderScreenTests
{
    public enum Data
    {
        /// <summary>Normal weights and inputs.</summary>
        Normal,

        /// <summary>Whole numbers, and every latent there three times: scores tie everywhere.</summary>
        Tied,

        /// <summary>Rows' norms from 1e-20 to 1e18, a dimension a thousand times the others, rows of zeros.</summary>
        Wild,

        /// <summary>No score is positive.</summary>
        Negative,
    }

    public static TheoryData<int, int, int, int, Data, SimdWidth> Cases =>
        [
            .. from width in Enum.GetValues<SimdWidth>()
            from data in Enum.GetValues<Data>()
            from shape in new[]
            {
                (1, 3, 5, 1),
                (1, 1, 1, 1),
                (7, 17, 33, 33), // k = F
                (64, 16, 130, 8),
                (600, 20, 400, 12), // rows enough for guessed floors
                (300, 31, 257, 1),
            }
            select (shape.Item1, shape.Item2, shape.Item3, shape.Item4, data, width),
        ];

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_largest_of_each_row_are_those_of_float32_scores(
        int rows,
        int width,
        int features,
        int k,
        Data data,
        SimdWidth simd
    )
    {
        var (W_encFD, biasesF, xBD) = Make(rows, width, features, data);
        float[][] scores = Scores(W_encFD, biasesF, xBD, rows, width, features, simd);
        var kept = new SparseRows(rows, rows * k);

        Select(W_encFD, biasesF, xBD, width, features, k, simd, kept, overBatch: false);

        for (int row = 0; row < rows; row++)
        {
            int[] expected =
            [
                .. Enumerable
                    .Range(0, features)
                    .Where(f => scores[row][f] > 0)
                    .OrderByDescending(f => scores[row][f])
                    .ThenBy(f => f)
                    .Take(k)
                    .Order(),
            ];
            kept.Latents[kept.FirstB[row]..kept.EndB[row]].Should().Equal(expected);
            kept.Values[kept.FirstB[row]..kept.EndB[row]].Should().Equal(expected.Select(f => scores[row][f]));
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_largest_of_a_batch_are_those_of_float32_scores(
        int rows,
        int width,
        int features,
        int k,
        Data data,
        SimdWidth simd
    )
    {
        var (W_encFD, biasesF, xBD) = Make(rows, width, features, data);
        float[][] scores = Scores(W_encFD, biasesF, xBD, rows, width, features, simd);
        var kept = new SparseRows(rows, rows * k);

        Select(W_encFD, biasesF, xBD, width, features, k, simd, kept, overBatch: true);

        (int, int, float)[] expected =
        [
            .. Enumerable
                .Range(0, rows)
                .SelectMany(row => Enumerable.Range(0, features).Select(f => (Row: row, Latent: f)))
                .Where(at => scores[at.Row][at.Latent] > 0)
                .OrderByDescending(at => scores[at.Row][at.Latent])
                .ThenBy(at => at)
                .Take(rows * k)
                .Order()
                .Select(at => (at.Row, at.Latent, scores[at.Row][at.Latent])),
        ];
        var actual = Enumerable
            .Range(0, rows)
            .SelectMany(row =>
                Enumerable
                    .Range(kept.FirstB[row], kept.EndB[row] - kept.FirstB[row])
                    .Select(entry => (row, kept.Latents[entry], kept.Values[entry]))
            );
        actual.Should().Equal(expected);
    }

    [Fact]
    public void Few_scores_are_computed_in_float32()
    {
        const int Rows = 256;
        const int Width = 128;
        const int Features = 4096;
        const int K = 16;
        var (W_encFD, biasesF, xBD) = Make(Rows, Width, Features, Data.Normal);
        var kept = new SparseRows(Rows, Rows * K);

        long rescored = Select(W_encFD, biasesF, xBD, Width, Features, K, Simd.Best, kept, overBatch: false);

        rescored.Should().BeInRange(Rows * K, 2 * Rows * K);
    }

    /// <summary>All latents but every third are watched, and one of those is ignored: bounds of a row hold its float32 scores.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void The_largest_of_those_watched_reach_the_floor_of_their_row(
        int rows,
        int width,
        int features,
        int k,
        Data data,
        SimdWidth simd
    )
    {
        var (W_encFD, biasesF, xBD) = Make(rows, width, features, data);
        float[][] scores = Scores(W_encFD, biasesF, xBD, rows, width, features, simd);
        int[] watched = [.. Enumerable.Range(0, features).Where(f => f % 3 != 1)];
        foreach (bool overBatch in new[] { false, true })
        {
            using var screen = new EncoderScreen(width, features, simd);
            screen.Watch(watched);
            Select(screen, W_encFD, biasesF, xBD, k, new SparseRows(rows, rows * k), overBatch);
            screen.Watched.Ignore(0);

            for (int row = 0; row < rows; row++)
            {
                float[] mostN = new float[screen.Watched.Padded];
                float floor = screen.Watched.Bounds(row, k, mostN, simd);

                float[] scoresN = [.. watched.Select((f, n) => n == 0 ? float.NegativeInfinity : scores[row][f])];
                float least = scoresN.OrderDescending().ElementAtOrDefault(k - 1);
                for (int n = 0; n < mostN.Length; n++)
                {
                    bool isKept = n < scoresN.Length && scoresN[n] > 0 && (scoresN.Length < k || scoresN[n] >= least);
                    (mostN[n] >= floor || !isKept).Should().BeTrue($"row {row}, {n}");
                    (n >= scoresN.Length || mostN[n] >= scoresN[n]).Should().BeTrue($"row {row}, {n}");
                }
                mostN[0].Should().Be(float.NegativeInfinity);
                mostN.Skip(watched.Length).Should().OnlyContain(most => most < floor);
            }
        }
    }

    [Fact]
    public void Few_of_those_watched_may_be_the_largest_beside_those_that_are()
    {
        const int Rows = 64;
        const int Width = 128;
        const int Features = 1000;
        const int K = 300;
        var (W_encFD, biasesF, xBD) = Make(Rows, Width, Features, Data.Normal);
        using var screen = new EncoderScreen(Width, Features, Simd.Best);
        screen.Watch([.. Enumerable.Range(0, Features)]);
        Select(screen, W_encFD, biasesF, xBD, 8, new SparseRows(Rows, Rows * 8), overBatch: false);

        float[] mostN = new float[screen.Watched.Padded];
        for (int row = 0; row < Rows; row++)
        {
            float floor = screen.Watched.Bounds(row, K, mostN, Simd.Best);
            mostN.Count(most => most >= floor).Should().BeInRange(K, K + (K / 10));
        }
    }

    [Fact]
    public void A_weight_or_bias_that_is_not_finite_is_named()
    {
        var (W_encFD, biasesF, _) = Make(1, 5, 70, Data.Normal);
        W_encFD[(66 * 5) + 3] = float.NaN;
        biasesF[69] = float.PositiveInfinity;
        using var screen = new EncoderScreen(5, 70, Simd.Best);
        fixed (float* weights = W_encFD)
        fixed (float* biases = biasesF)
        {
            screen.Load(weights, biases, 2).Should().Be(66);
        }
    }

    private static long Select(
        float[] W_encFD,
        float[] biasesF,
        float[] xBD,
        int width,
        int features,
        int k,
        SimdWidth simd,
        SparseRows kept,
        bool overBatch
    )
    {
        using var screen = new EncoderScreen(width, features, simd);
        Select(screen, W_encFD, biasesF, xBD, k, kept, overBatch);
        return screen.Rescored;
    }

    private static void Select(
        EncoderScreen screen,
        float[] W_encFD,
        float[] biasesF,
        float[] xBD,
        int k,
        SparseRows kept,
        bool overBatch
    )
    {
        fixed (float* weights = W_encFD)
        fixed (float* biases = biasesF)
        fixed (float* x = xBD)
        {
            screen.Load(weights, biases, 2).Should().BeNull();
            if (overBatch)
            {
                screen.SelectOverBatch(x, k, 2, kept);
            }
            else
            {
                screen.SelectOfEachRow(x, k, 2, kept);
            }
        }
    }

    private static float[][] Scores(
        float[] W_encFD,
        float[] biasesF,
        float[] xBD,
        int rows,
        int width,
        int features,
        SimdWidth simd
    )
    {
        int[] all = [.. Enumerable.Range(0, features)];
        var scores = new float[rows][];
        fixed (float* weights = W_encFD)
        {
            for (int row = 0; row < rows; row++)
            {
                scores[row] = new float[features];
                GatheredRows.Dot(weights, all, xBD.AsSpan(row * width, width), scores[row], simd);
                TensorPrimitives.Add(scores[row], biasesF, scores[row]);
            }
        }
        return scores;
    }

    private static (float[] W_encFD, float[] BiasesF, float[] XBD) Make(int rows, int width, int features, Data data)
    {
        var random = new Xoshiro256(7);
        float Normal() => (float)random.NextGaussian();
        float[] W_encFD = [.. Enumerable.Range(0, features * width).Select(_ => Normal())];
        float[] biasesF = [.. Enumerable.Range(0, features).Select(_ => 0.1f * Normal())];
        float[] xBD = [.. Enumerable.Range(0, rows * width).Select(_ => Normal())];
        switch (data)
        {
            case Data.Tied:
                W_encFD =
                [
                    .. Enumerable
                        .Range(0, W_encFD.Length)
                        .Select(i => (float)Math.Round(W_encFD[i / width / 3 * width + (i % width)])),
                ];
                biasesF = [.. biasesF.Select(_ => 0.5f)];
                xBD = [.. xBD.Select(x => (float)Math.Round(x))];
                break;
            case Data.Wild:
                for (int i = 0; i < xBD.Length; i++)
                {
                    int row = i / width;
                    xBD[i] *= row % 5 == 4 ? 0 : MathF.Pow(10, (row * 7 % 39) - 20);
                    xBD[i] *= i % width == 0 ? 1000 : 1;
                }
                break;
            case Data.Negative:
                biasesF = [.. biasesF.Select(_ => -1e4f)];
                break;
            default:
                break;
        }
        return (W_encFD, biasesF, xBD);
    }
}
