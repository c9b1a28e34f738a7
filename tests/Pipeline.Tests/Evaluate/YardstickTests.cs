using Pipeline.Evaluate;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate;

public class YardstickTests
{
    /// <summary>Two contexts of three tokens, the first of each BOS: of four predictions two are made from it.</summary>
    [Theory]
    [InlineData(false, 3, 5, 9)]
    [InlineData(true, 2, 3, 7)]
    public void What_a_splice_costs_may_leave_out_what_is_predicted_from_a_BOS(
        bool leavesOut,
        double clean,
        double spliced,
        double zero
    )
    {
        var yardstick = new Yardstick(
            Score(4, 1, 4, 3),
            Score(11, 7, 11, 7),
            new InputSums(1),
            new Bootstrap(1, new Xoshiro256(1))
        );

        var cost = yardstick.CostOf(Score(7, 3, 7, 3), except: leavesOut ? TokenClass.Bos : null);

        double Figure(string name) => cost[name]!.GetValue<double>();
        Figure("ce_spliced").Should().Be(spliced);
        Figure("ce_zero").Should().Be(zero);
        Figure("ce_delta").Should().Be(spliced - clean);
        Figure("loss_recovered").Should().BeApproximately(1 - ((spliced - clean) / (zero - clean)), 1e-12);
    }

    /// <param name="losses">Of the second and third token of each context.</param>
    private static SpliceScore Score(params double[] losses)
    {
        var score = new SpliceScore();
        score.Add(
            [
                .. Enumerable
                    .Range(0, 6)
                    .Select(i => new TokenPlace(i % 3, i % 3 == 0 ? TokenClass.Bos : TokenClass.WordStart, 0)),
            ],
            losses
        );
        return score;
    }
}
