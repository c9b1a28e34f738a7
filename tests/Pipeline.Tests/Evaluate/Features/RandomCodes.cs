using Pipeline.Evaluate.Features;
using Pipeline.Shared;
using Pipeline.Shared.Tokens;

namespace Pipeline.Tests.Evaluate.Features;

/// <summary>Made-up contexts and the latents that fire on them; the higher a latent's number, the rarer it fires.</summary>
internal sealed class RandomCodes
{
    private readonly int kept;

    /// <param name="contexts">How many.</param>
    /// <param name="positions">T.</param>
    /// <param name="features">F; the last of them never fires if there are more than K.</param>
    /// <param name="kept">K.</param>
    /// <param name="seed">Of the numbers.</param>
    public RandomCodes(int contexts, int positions, int features, int kept, ulong seed = 1)
    {
        (Features, this.kept) = (features, kept);
        var random = new Xoshiro256(seed);
        Contexts =
        [
            .. Enumerable
                .Range(0, contexts)
                .Select(c => new PackedContext(
                    [.. Enumerable.Range(0, positions).Select(_ => random.NextInt(30))],
                    [.. Enumerable.Range(0, positions).Select(_ => c / 2)],
                    [.. Enumerable.Range(0, positions).Select(t => ((c % 2) * positions) + t)]
                )),
        ];
        Indices = new long[contexts * positions * kept];
        Values = new float[Indices.Length];
        Activations = new float[features][];
        for (int f = 0; f < features; f++)
        {
            Activations[f] = new float[contexts * positions];
        }
        for (int row = 0; row < contexts * positions; row++)
        {
            var others = new SortedSet<int>();
            while (others.Count < kept)
            {
                int living = Math.Max(kept, features - 1);
                others.Add(
                    others.Count < kept - 1 ? random.NextInt(Math.Max(kept, living / 4)) : random.NextInt(living)
                );
            }
            int at = row * kept;
            foreach (int latent in others)
            {
                // Few different values, so that some are equal; and zeros, as in a row of fewer latents than K.
                float value = random.NextInt(12) / 4f;
                (Indices[at], Values[at++]) = (latent, value);
                Activations[latent][row] = value;
            }
        }
    }

    public int Features { get; }

    public PackedContext[] Contexts { get; }

    /// <summary>[C x T, K].</summary>
    public long[] Indices { get; }

    /// <summary>[C x T, K].</summary>
    public float[] Values { get; }

    /// <summary>The plain form, [F][C x T].</summary>
    public float[][] Activations { get; }

    public int Positions => Contexts[0].Tokens.Length;

    /// <summary>Contexts from one to another, in batches.</summary>
    public void Give(Action<PackedContext[], long[], float[]> add, int batch, Range? which = null)
    {
        var (first, count) = (which ?? Range.All).GetOffsetAndLength(Contexts.Length);
        for (int c = first; c < first + count; c += batch)
        {
            int last = Math.Min(first + count, c + batch);
            var entries = new Range(c * Positions * kept, last * Positions * kept);
            add(Contexts[c..last], Indices[entries], Values[entries]);
        }
    }

    public FeatureExamples Examples(int? bos = null)
    {
        var examples = new FeatureExamples(Features, bos);
        Give(examples.Add, 3);
        return examples;
    }

    public LatentSample Sample(long budget = LatentSample.DefaultBudget, int? bos = null)
    {
        var sample = new LatentSample(5, bos, budget);
        Give(sample.Add, 3);
        return sample;
    }
}
