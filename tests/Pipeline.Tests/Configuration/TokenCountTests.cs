using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class TokenCountTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("1500", 1_500)]
    [InlineData("200k", 200_000)]
    [InlineData("200K", 200_000)]
    [InlineData("2M", 2_000_000)]
    [InlineData("1.5G", 1_500_000_000)]
    [InlineData("2_000_000", 2_000_000)]
    [InlineData("9223372036854775807", long.MaxValue)]
    public void Reads_full_numbers_and_suffixes(string text, long expected)
    {
        TokenCount.TryParse(text, out TokenCount count).Should().BeTrue();
        count.Value.Should().Be(expected);
    }

    [Theory]
    [InlineData("")]
    [InlineData("k")]
    [InlineData("-1")]
    [InlineData("1.5")]
    [InlineData("1.2345k")]
    [InlineData("1e6")]
    [InlineData("2m")]
    [InlineData("1__0")]
    [InlineData("_1")]
    [InlineData("1k\n")]
    [InlineData("٣")]
    [InlineData("9223372036854775808")]
    [InlineData("9223372037G")]
    [InlineData("1.0000000000000000000000000000000001")]
    public void Refuses_what_is_no_whole_number_of_tokens(string text) =>
        TokenCount.TryParse(text, out _).Should().BeFalse();

    [Theory]
    [InlineData(0, "0")]
    [InlineData(100, "100")]
    [InlineData(1_500, "1500")]
    [InlineData(200_000, "200k")]
    [InlineData(1_500_000, "1.5M")]
    [InlineData(2_000_000, "2M")]
    [InlineData(12_345_678, "12345678")]
    [InlineData(100_000_000, "100M")]
    public void Writes_the_shortest_exact_form(long value, string expected) =>
        new TokenCount(value).ToString().Should().Be(expected);

    [Fact]
    public void Every_count_reads_back_from_what_it_writes() =>
        Prop.ForAll(
                ArbMap.Default.ArbFor<long>().Filter(value => value >= 0),
                Gen.Elements(1L, 10, 1_000, 100_000, 1_000_000, 1_000_000_000).ToArbitrary(),
                (value, scale) =>
                {
                    var count = new TokenCount(value % (long.MaxValue / scale) * scale);
                    return TokenCount.TryParse(count.ToString(), out TokenCount read) && read == count;
                }
            )
            .Check(Config.QuickThrowOnFailure.WithMaxTest(1_000).WithReplay(42, 43));

    [Fact]
    public void Is_never_negative() =>
        FluentActions.Invoking(() => new TokenCount(-1)).Should().Throw<ArgumentOutOfRangeException>();
}
