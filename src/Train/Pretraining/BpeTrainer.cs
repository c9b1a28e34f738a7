using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Pipeline.Shared.Tokens;

namespace Pipeline.Train.Pretraining;

/// <summary>
/// Learns a byte-level BPE vocabulary as GPT-2's (Sennrich et al. 2016 over bytes): text is cut into words by GPT-2's
/// pattern, and the most frequent adjacent pair becomes a piece until the vocabulary is full. Ties go to the pair with
/// the lower ids, so the same text gives the same vocabulary.
/// </summary>
public sealed partial class BpeTrainer
{
    /// <summary>The document separator, which is also BOS; it has id 0.</summary>
    public const string EndOfText = "<|endoftext|>";

    private const int FirstByteId = 1;

    private readonly Dictionary<string, long> countOfWord = new(StringComparer.Ordinal);

    /// <summary>UTF-8 bytes counted so far.</summary>
    public long Bytes { get; private set; }

    /// <summary>Counts the words of one text.</summary>
    public void Add(string text)
    {
        Bytes += Encoding.UTF8.GetByteCount(text);
        var counts = countOfWord.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (var match in WordPattern().EnumerateMatches(text))
        {
            var word = text.AsSpan(match.Index, match.Length);
            ref long count = ref CollectionsMarshal.GetValueRefOrAddDefault(counts, word, out _);
            count++;
        }
    }

    /// <param name="vocabulary">Pieces in all: the separator, 256 bytes, and merges.</param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer pieces than separator and bytes.</exception>
    public BpeVocabulary Train(int vocabulary)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabulary, FirstByteId + 256);
        var pairs = new PairTable(CountedWords());
        var merges = new List<(int Left, int Right)>();
        while (FirstByteId + 256 + merges.Count < vocabulary && pairs.TryTakeBest(out var pair))
        {
            int merged = FirstByteId + 256 + merges.Count;
            merges.Add(pair);
            pairs.Merge(pair, merged);
        }
        return new BpeVocabulary(merges);
    }

    private List<Word> CountedWords()
    {
        var idOfByte = new int[256];
        for (int rank = 0; rank < 256; rank++)
        {
            idOfByte[ByteLevelAlphabet.ByteOf(ByteLevelAlphabet.Ordered[rank])] = FirstByteId + rank;
        }
        return
        [
            .. countOfWord
                .OrderBy(pair => pair.Key, StringComparer.Ordinal)
                .Select(pair => new Word([.. Encoding.UTF8.GetBytes(pair.Key).Select(b => idOfByte[b])], pair.Value)),
        ];
    }

    [GeneratedRegex(@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")]
    private static partial Regex WordPattern();

    private sealed class Word(int[] pieces, long count)
    {
        public int[] Pieces { get; set; } = pieces;
        public long Count { get; } = count;
    }

    /// <summary>Every adjacent pair's count and the words it occurs in, kept current while pairs are merged.</summary>
    private sealed class PairTable
    {
        private readonly List<Word> words;
        private readonly Dictionary<(int, int), long> countOf = [];
        private readonly Dictionary<(int, int), HashSet<int>> wordsOf = [];

        // Entries go stale when a count changes; a stale one is dropped or requeued when it surfaces.
        private readonly PriorityQueue<(int Left, int Right), (long, int, int)> queue = new();

        public PairTable(List<Word> words)
        {
            this.words = words;
            for (int i = 0; i < words.Count; i++)
            {
                Count(i, +1);
            }
            foreach (var pair in countOf.Keys)
            {
                Enqueue(pair);
            }
        }

        public bool TryTakeBest(out (int Left, int Right) best)
        {
            while (queue.TryDequeue(out best, out var priority))
            {
                long count = countOf.GetValueOrDefault(best);
                if (count == -priority.Item1 && count > 1)
                {
                    return true;
                }
                if (count > 1)
                {
                    Enqueue(best);
                }
            }
            return false;
        }

        public void Merge((int Left, int Right) pair, int merged)
        {
            var touched = new HashSet<(int, int)>();
            foreach (int i in wordsOf[pair].Order().ToArray())
            {
                Count(i, -1);
                words[i].Pieces = Replace(words[i].Pieces, pair, merged);
                Count(i, +1, touched);
            }
            countOf.Remove(pair);
            wordsOf.Remove(pair);
            foreach (var changed in touched)
            {
                Enqueue(changed);
            }
        }

        private void Enqueue((int Left, int Right) pair)
        {
            if (countOf.TryGetValue(pair, out long count))
            {
                queue.Enqueue(pair, (-count, pair.Left, pair.Right));
            }
        }

        private void Count(int index, int sign, HashSet<(int, int)>? touched = null)
        {
            var word = words[index];
            for (int i = 0; i + 1 < word.Pieces.Length; i++)
            {
                var pair = (word.Pieces[i], word.Pieces[i + 1]);
                CollectionsMarshal.GetValueRefOrAddDefault(countOf, pair, out _) += sign * word.Count;
                ref var set = ref CollectionsMarshal.GetValueRefOrAddDefault(wordsOf, pair, out _);
                if (sign > 0)
                {
                    (set ??= []).Add(index);
                    touched?.Add(pair);
                }
            }
        }

        private static int[] Replace(int[] pieces, (int Left, int Right) pair, int merged)
        {
            var replaced = new List<int>(pieces.Length);
            for (int i = 0; i < pieces.Length; i++)
            {
                if (i + 1 < pieces.Length && pieces[i] == pair.Left && pieces[i + 1] == pair.Right)
                {
                    replaced.Add(merged);
                    i++;
                }
                else
                {
                    replaced.Add(pieces[i]);
                }
            }
            return [.. replaced];
        }
    }
}
