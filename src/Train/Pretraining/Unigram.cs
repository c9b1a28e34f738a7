namespace Pipeline.Train.Pretraining;

/// <summary>The simplest language model, as a baseline: each token by its frequency alone.</summary>
public static class Unigram
{
    /// <summary>
    /// Mean -ln p(token) over <paramref name="scored"/>, nats a token, with p from the counts in
    /// <paramref name="training"/> plus one.
    /// </summary>
    public static double CrossEntropy(ReadOnlySpan<int> training, ReadOnlySpan<int> scored, int vocabulary)
    {
        var counts = new long[vocabulary];
        foreach (int id in training)
        {
            counts[id]++;
        }
        double sum = 0;
        foreach (int id in scored)
        {
            sum -= Math.Log((counts[id] + 1.0) / (training.Length + (double)vocabulary));
        }
        return sum / scored.Length;
    }
}
