using Pipeline.Evaluate.N2G;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.N2G;

/// <summary>The method's rules one by one, with a made-up latent: ids below 10 are words, 99 is the pad.</summary>
public class N2GTests
{
    private const int Pad = 99;

    /// <summary>Rule 1.</summary>
    [Fact]
    public void An_example_is_cut_after_its_largest_activation_and_kept_short_at_its_beginning()
    {
        var example = N2GExample.UpToLargest([1, 2, 3, 4, 5], [0, 7, 1, 7, 2], most: 10)!;
        var shortened = N2GExample.UpToLargest([1, 2, 3, 4, 5], [0, 0, 1, 9, 2], most: 3)!;

        example.Tokens.Should().Equal(1, 2);
        example.Activation.Should().Be(7);
        shortened.Tokens.Should().Equal(2, 3, 4);
        N2GExample.UpToLargest([1, 2], [0, 0], most: 10).Should().BeNull();
    }

    /// <summary>Rule 2.</summary>
    [Fact]
    public void The_suffix_grows_leftwards_until_half_the_activation_is_there()
    {
        // 4 with every token, 1.9 with three, 2 with four: half of 4 is enough.
        var pattern = Of(
            [5, 6, 7, 8, 9],
            4,
            list =>
                list.Length switch
                {
                    5 => 4,
                    4 => 2,
                    _ => 1.9f,
                }
        )!;

        pattern.Tokens.Length.Should().Be(4);
        pattern.Activation.Should().Be(2);
    }

    [Fact]
    public void A_suffix_may_be_longer_than_what_is_tried_at_a_time()
    {
        int[] tokens = [.. Enumerable.Range(10, 30)];

        Of(tokens, 4, list => list.Length >= 21 ? 4 : 0)!.Tokens.Length.Should().Be(21);
    }

    /// <summary>Rule 2.</summary>
    [Fact]
    public void Without_half_the_activation_the_full_text_stays()
    {
        var pattern = Of([5, 6, 7], 10, list => list.Length)!;

        pattern.Tokens.Length.Should().Be(3);
        pattern.Activation.Should().Be(3);
        Of([5, 6, 7], 10, _ => 0).Should().BeNull("a latent that does not fire has no pattern");
    }

    /// <summary>Rule 3.</summary>
    [Theory]
    [InlineData(2f, true)]
    [InlineData(1.9f, false)]
    public void A_pad_in_front_tells_whether_other_text_may_stand_there(float padded, bool expected) =>
        Of([5, 6], 4, list => list[0] == Pad ? padded : 4)!.CanPadStart.Should().Be(expected);

    /// <summary>Rule 4.</summary>
    [Fact]
    public void A_token_whose_replacement_costs_less_than_half_becomes_a_wildcard()
    {
        // Suffix 5 6 7 8, with 4; without 5: 2.1 of it, without 6: 2, without 7: all, without 8: nothing.
        var pattern = Of(
            [4, 5, 6, 7, 8],
            4,
            list =>
                list.Length < 4 ? 0
                : list.Length == 5 || !list.Contains(Pad) ? 4
                : !list.Contains(5) ? 2.1f
                : !list.Contains(6) ? 2
                : !list.Contains(7) ? 4
                : 0
        )!;

        pattern.Tokens.Should().Equal(null, 6, null, 8);
    }

    /// <summary>All at once as each alone, in calls of at most so many rounds.</summary>
    [Fact]
    public void Examples_tried_together_have_the_patterns_that_each_has_alone()
    {
        var random = new Xoshiro256(8);
        // A latent that likes 3 and 5, wherever they stand, and short texts.
        float Latent(int[] list) =>
            list.Select((token, t) => token is 3 or 5 ? 4f / (list.Length - t) : 0).Sum() - (0.1f * list.Length);
        N2GExample[] examples =
        [
            .. Enumerable
                .Range(0, 40)
                .Select(i => (int[])[.. Enumerable.Range(0, 1 + (i % 29)).Select(_ => random.NextInt(9))])
                .Select((tokens, i) => new N2GExample(tokens, i % 4 == 0 ? 99 : Math.Max(0.5f, 1.5f * Latent(tokens)))),
        ];
        int calls = 0;

        var together = N2GPattern.Of(
            examples,
            lists =>
            {
                calls++;
                return [.. lists.Select(Latent)];
            },
            Pad
        );

        together.Should().Contain(pattern => pattern == null).And.Contain(pattern => pattern != null);
        for (int e = 0; e < examples.Length; e++)
        {
            together[e].Should().BeEquivalentTo(Of(examples[e].Tokens, examples[e].Activation, Latent));
        }
        calls.Should().Be(5, "lengths up to 8, 16, 24 and 29, and what is altered in all");
    }

    /// <summary>Rule 5.</summary>
    [Fact]
    public void A_pattern_is_found_from_its_last_token_leftwards_and_predicts_its_activation()
    {
        var trie = Trie(new N2GPattern([5, null, 7], CanPadStart: true, 3));

        trie.Predict([1, 5, 6, 7], 3).Should().Be(3);
        trie.Predict([1, 5, 6, 7], 2).Should().Be(0);
        trie.Predict([5, 7], 1).Should().Be(0, "the wildcard stands for one token, not for none");
        trie.Predict([6, 6, 7], 2).Should().Be(0);
    }

    /// <summary>Rule 5.</summary>
    [Fact]
    public void Without_can_pad_start_a_pattern_fits_only_where_the_text_begins()
    {
        var trie = Trie(new N2GPattern([5, 7], CanPadStart: false, 3));

        trie.Predict([5, 7], 1).Should().Be(3);
        trie.Predict([1, 5, 7], 2).Should().Be(0);
    }

    /// <summary>Rule 5.</summary>
    [Fact]
    public void Of_equal_patterns_the_largest_activation_stays_in_whatever_order_they_come()
    {
        N2GPattern weak = new([7], CanPadStart: true, 2);
        N2GPattern strong = new([7], CanPadStart: true, 5);

        Trie(weak, strong).Predict([7], 0).Should().Be(5);
        Trie(strong, weak).Predict([7], 0).Should().Be(5);
    }

    /// <summary>Rule 6.</summary>
    [Fact]
    public void A_tokens_own_branch_is_preferred_to_the_wildcards_and_there_is_no_way_back()
    {
        var trie = Trie(new([1, 5, 7], CanPadStart: true, 3), new([2, null, 7], CanPadStart: true, 4));

        trie.Predict([1, 5, 7], 2).Should().Be(3);
        trie.Predict([2, 6, 7], 2).Should().Be(4);
        trie.Predict([2, 5, 7], 2).Should().Be(0, "5 has a branch of its own, on which 2 does not follow");
    }

    /// <summary>Rule 6.</summary>
    [Fact]
    public void The_first_pattern_that_ends_decides()
    {
        var trie = Trie(new([5, 7], CanPadStart: true, 3), new([1, 5, 7], CanPadStart: true, 8));

        trie.Predict([1, 5, 7], 2).Should().Be(3);
    }

    /// <summary>Rule 7.</summary>
    [Fact]
    public void Precision_and_recall_compare_where_it_predicts_with_where_it_fired()
    {
        var trie = Trie(new N2GPattern([7], CanPadStart: true, 3));

        // Predicted at 0, 2 and 4; fired at 0, 1, 2 and 3.
        var score = new N2GScore().With(trie, [7, 1, 7, 2, 7], [1, 2, 0.1f, 3, 0]);

        score.Should().Be(new N2GScore(3, 4, 2));
        score.Precision.Should().Be(2 / 3.0);
        score.Recall.Should().Be(0.5);
        score.F1.Should().BeApproximately(2 * (2 / 3.0) * 0.5 / ((2 / 3.0) + 0.5), 1e-12);
        score.With(trie, [7, 9, 7], [1, 2, 0], except: 7).Should().Be(new N2GScore(3, 5, 2));
        score.With(trie, [7], [1]).Should().Be(new N2GScore(4, 5, 3));
        new N2GScore(0, 0, 0).Precision.Should().BeNull();
        new N2GScore(0, 0, 0).Recall.Should().BeNull();
        new N2GScore(0, 0, 0).F1.Should().BeNull();
    }

    private static N2GPattern? Of(int[] tokens, float activation, Func<int[], float> latent) =>
        N2GPattern.Of([new N2GExample(tokens, activation)], lists => [.. lists.Select(latent)], Pad)[0];

    private static N2GTrie Trie(params N2GPattern[] patterns)
    {
        var trie = new N2GTrie();
        Array.ForEach(patterns, trie.Insert);
        return trie;
    }
}
