using Pipeline.Evaluate.N2G;

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
        var score = new N2GScore().With(trie, [7, 1, 7, 2, 7], [true, true, true, true, false]);

        score.Should().Be(new N2GScore(3, 4, 2));
        score.Precision.Should().Be(2 / 3.0);
        score.Recall.Should().Be(0.5);
        score.F1.Should().BeApproximately(2 * (2 / 3.0) * 0.5 / ((2 / 3.0) + 0.5), 1e-12);
        score.With(trie, [7], [true]).Should().Be(new N2GScore(4, 5, 3));
        new N2GScore(0, 0, 0).Precision.Should().BeNull();
        new N2GScore(0, 0, 0).Recall.Should().BeNull();
        new N2GScore(0, 0, 0).F1.Should().BeNull();
    }

    private static N2GPattern? Of(int[] tokens, float activation, Func<int[], float> latent) =>
        N2GPattern.Of(new N2GExample(tokens, activation), lists => [.. lists.Select(latent)], Pad);

    private static N2GTrie Trie(params N2GPattern[] patterns)
    {
        var trie = new N2GTrie();
        Array.ForEach(patterns, trie.Insert);
        return trie;
    }
}
