using Pipeline.Evaluate.Features;

namespace Pipeline.Evaluate.N2G;

/// <summary>A latent's patterns, and how well they tell where it fires.</summary>
/// <param name="Examples">Contexts the patterns were made of.</param>
/// <param name="Patterns">Of those on which the latent fires when they stand alone.</param>
/// <param name="Score">On contexts the patterns were not made of.</param>
internal sealed record N2GLatent(int Examples, IReadOnlyList<N2GPattern> Patterns, N2GScore Score)
{
    /// <summary>Contexts patterns are made of, at most: those in which the latent fires most.</summary>
    private const int MostExamples = 16;

    /// <summary>Tokens of an example, at most.</summary>
    private const int ExampleTokens = 32;

    /// <summary>Tokens of an example, at most, where another must fit in front of them.</summary>
    public static int ExampleTokensOf(int modelContext) => Math.Min(ExampleTokens, modelContext - 1);

    /// <summary>Makes patterns of a sample's contexts and tests them: every second one is held out for that.</summary>
    /// <param name="sample">Contexts and activations.</param>
    /// <param name="latent">Which.</param>
    /// <param name="activations">The latent, live.</param>
    /// <param name="pad">The id put in a token's place.</param>
    /// <param name="most">Tokens of an example, at most.</param>
    public static N2GLatent Of(
        SampledActivations sample,
        int latent,
        LastActivations activations,
        int pad,
        int most = ExampleTokens
    )
    {
        var activationsT = new float[sample.Positions];
        var found = new List<N2GExample>();
        for (int c = 0; c < sample.Contexts; c += 2)
        {
            if (sample.Read(latent, c, activationsT))
            {
                found.Add(N2GExample.UpToLargest(sample.TokensOf(c), activationsT, most)!);
            }
        }
        N2GExample[] examples = [.. found.OrderByDescending(example => example.Activation).Take(MostExamples)];
        N2GPattern[] patterns = [.. N2GPattern.Of(examples, activations, pad).OfType<N2GPattern>()];
        var trie = new N2GTrie();
        Array.ForEach(patterns, trie.Insert);
        var score = new N2GScore();
        for (int c = 1; c < sample.Contexts; c += 2)
        {
            sample.Read(latent, c, activationsT);
            score = score.With(trie, sample.TokensOf(c), activationsT, except: sample.Bos);
        }
        return new N2GLatent(examples.Length, patterns, score);
    }
}
