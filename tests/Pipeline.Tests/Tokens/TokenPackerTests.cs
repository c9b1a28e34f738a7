using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;

namespace Pipeline.Tests.Tokens;

public class TokenPackerTests
{
    [Fact]
    public void Contexts_end_to_end_are_the_documents_end_to_end() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(0, 9).ListOf().ToArbitrary(),
                Gen.Choose(2, 7).ToArbitrary(),
                (lengths, context) =>
                {
                    var contexts = Pack(lengths, context, BosPolicy.EachDocument);
                    int[] expected =
                    [
                        .. lengths.SelectMany((length, i) => Enumerable.Repeat(i + 1, length).Prepend(0)),
                    ];
                    int[] packed = [.. contexts.SelectMany(c => c.Tokens)];
                    bool whole = contexts.Count == 1 && contexts[0].Tokens.Length < context;
                    int kept = whole ? expected.Length : expected.Length / context * context;
                    return packed.AsSpan().SequenceEqual(expected.AsSpan(0, packed.Length == 0 ? 0 : kept));
                }
            )
        );

    [Fact]
    public void Documents_and_positions_belong_to_their_tokens()
    {
        var contexts = Pack([2, 3], 4, BosPolicy.EachDocument);

        contexts.Should().ContainSingle(); // 0 1 1 | 0 2 2 2: one full context, a rest of three is left out
        contexts[0].Tokens.Should().Equal(0, 1, 1, 0);
        contexts[0].Documents.Should().Equal(0, 0, 0, 1);
        contexts[0].Positions.Should().Equal(0, 1, 2, 0);
    }

    [Fact]
    public void A_BOS_before_each_context_has_no_place_in_the_document()
    {
        var contexts = Pack([5], 3, BosPolicy.EachContext);

        contexts.SelectMany(c => c.Tokens).Should().Equal(0, 1, 1, 0, 1, 1);
        contexts.SelectMany(c => c.Positions).Should().Equal(-1, 0, 1, -1, 2, 3);
    }

    [Fact]
    public void A_text_shorter_than_a_context_makes_one_shorter_context() =>
        Pack([3], 100, BosPolicy.EachDocument).Single().Tokens.Should().Equal(0, 1, 1, 1);

    [Fact]
    public void A_BOS_that_the_tokenizer_does_not_have_is_refused() =>
        (
            (Action)(
                () =>
                    _ = new TokenPacker(
                        new Letters { BosId = null },
                        8,
                        BosPolicy.EachDocument,
                        false,
                        "a.yaml: harvest"
                    )
            )
        )
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain("a.yaml: harvest.bos");

    /// <summary>Document i is so many times the token i + 1; BOS is 0.</summary>
    private static List<PackedContext> Pack(IEnumerable<int> lengths, int context, BosPolicy policy)
    {
        var documents = lengths.Select(
            (length, i) => (i, new Document($"{i}", "", new string((char)('a' + i), length)))
        );
        return [.. new TokenPacker(new Letters(), context, policy, false, "test").Pack(documents)];
    }

    private sealed class Letters : ITokenizer
    {
        public int VocabularySize => 27;
        public int? BosId { get; init; } = 0;
        public int? EosId => null;
        public string Hash => "";

        public IReadOnlyList<int> Encode(string text) => [.. text.Select(c => c - 'a' + 1)];

        public string Decode(IReadOnlyList<int> ids) => string.Concat(ids.Select(TokenText));

        public string TokenText(int id) => ((char)('a' + id - 1)).ToString();

        public int BytesOf(int id, bool first) => 1;
    }
}
