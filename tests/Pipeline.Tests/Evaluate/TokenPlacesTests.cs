using Pipeline.Evaluate;
using Pipeline.Shared.Tokens;

namespace Pipeline.Tests.Evaluate;

public class TokenPlacesTests
{
    [Theory]
    [InlineData(" ", "Space")]
    [InlineData("\n\n", "Space")]
    [InlineData("", "Special")]
    [InlineData("\uFFFD", "Other")]
    [InlineData(" \uFFFD", "Other")]
    [InlineData("\u0001", "Other")]
    [InlineData("7", "Digits")]
    [InlineData(" 1984", "Digits")]
    [InlineData("½", "Digits")]
    [InlineData(".", "Punctuation")]
    [InlineData(" (", "Punctuation")]
    [InlineData("€", "Punctuation")]
    [InlineData("'s", "Punctuation")]
    [InlineData(" the", "WordStart")]
    [InlineData("\nThe", "WordStart")]
    [InlineData("ing", "WordContinuation")]
    [InlineData("語", "WordContinuation")]
    [InlineData("\U00010400", "WordContinuation")]
    [InlineData("\u0301", "WordContinuation")]
    public void A_token_is_of_the_class_its_text_says(string text, string expected)
    {
        var places = new TokenPlaces(new Words([text]));

        $"{places.ClassOf(0)}".Should().Be(expected);
    }

    [Fact]
    public void BOS_and_EOS_go_by_their_ids_whatever_their_text_and_BOS_goes_first()
    {
        $"{new TokenPlaces(new Words(["the", " a"]) { BosId = 0 }).ClassOf(0)}".Should().Be("Bos");
        $"{new TokenPlaces(new Words(["the", " a"]) { EosId = 1 }).ClassOf(1)}".Should().Be("Special");
        $"{new TokenPlaces(new Words(["the"]) { BosId = 0, EosId = 0 }).ClassOf(0)}".Should().Be("Bos");
    }

    [Fact]
    public void Positions_fall_into_bands_of_powers_of_two_that_leave_none_out()
    {
        int[] bands = [.. Enumerable.Range(0, 9).Select(TokenPlace.BandOf)];

        bands.Should().Equal(0, 1, 2, 2, 3, 3, 3, 3, 4);
        Enumerable
            .Range(0, 5)
            .Select(band => TokenPlace.PositionsOf(band, 9))
            .Should()
            .Equal((0, 0), (1, 1), (2, 3), (4, 7), (8, 8));
    }

    [Fact]
    public void Documents_are_counted_on_across_batches_and_from_a_restored_state()
    {
        var tokenizer = new Words(["a"]);
        PackedContext Context(params int[] documents) =>
            new(new int[documents.Length], documents, new int[documents.Length]);
        var places = new TokenPlaces(tokenizer);
        int[] first = [.. places.Of([Context(3, 3, 5), Context(5, 5, 9)]).Select(place => place.Document)];
        var restored = new TokenPlaces(tokenizer) { State = places.State };

        int[] second = [.. restored.Of([Context(9, 12)]).Select(place => place.Document)];

        first.Should().Equal(0, 0, 1, 1, 1, 2);
        second.Should().Equal(2, 3);
        restored.Documents.Should().Be(4);
    }

    [Fact]
    public void Sums_of_groups_are_those_of_their_tokens_and_come_back_from_their_state()
    {
        var sums = new GroupedSums(2);
        sums.Add(new(0, TokenClass.Bos, 0), [1, 10]);
        sums.Add(new(2, TokenClass.Digits, 0), [2, 20]);
        sums.Add(new(2, TokenClass.Digits, 3), [4, 40]);

        var restored = new GroupedSums(2) { State = sums.State };
        restored.Add(new(5, TokenClass.Bos, 4), [8, 80]);

        restored.Of(Grouping.Position, 2).ToArray().Should().Equal(6, 60);
        restored.Of(Grouping.Position, 1).ToArray().Should().Equal(0, 0);
        restored.Of(Grouping.Position, 77).ToArray().Should().Equal(0, 0);
        restored.Of(Grouping.Class, (int)TokenClass.Bos).ToArray().Should().Equal(9, 90);
        Enumerable
            .Range(0, 6)
            .Select(document => restored.Of(Grouping.Document, document)[1])
            .Should()
            .Equal(30, 0, 0, 40, 80, 0);
        restored.Total().Should().Equal(15, 150);
        restored.Total(except: TokenClass.Bos).Should().Equal(6, 60);
        sums.Total().Should().Equal([7, 70], "the restored one is another");
    }

    private sealed class Words(string[] texts) : ITokenizer
    {
        public int VocabularySize => texts.Length;

        public int? BosId { get; init; }

        public int? EosId { get; init; }

        public string Hash => "";

        public IReadOnlyList<int> Encode(string text) => throw new NotSupportedException();

        public string Decode(IReadOnlyList<int> ids) => throw new NotSupportedException();

        public string TokenText(int id) => texts[id];

        public int BytesOf(int id, bool first) => throw new NotSupportedException();
    }
}
