using Pipeline.Evaluate.Report;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Report;

public class ChartAxisTests
{
    /// <summary>A marker reaches 4.5 pixels around its place; the plots are 216 pixels high.</summary>
    private const double RoomForMarker = 4.5 / 216;

    [Theory]
    [InlineData(0.98, 0.9869)] // the least stands on a tick
    [InlineData(0.97998, 0.9869)]
    [InlineData(0.979999999999, 0.9869)] // on a tick, up to rounding
    [InlineData(0.0693, 0.1)] // the greatest stands on a tick
    [InlineData(0, 1)]
    [InlineData(-2, 2)]
    [InlineData(31.9999, 32)]
    [InlineData(32, 32)]
    [InlineData(1, 32)] // logarithmic
    public void A_marker_at_either_end_of_the_data_is_drawn_whole(double least, double greatest) =>
        HasRoom(ChartAxis.Fit("values", [least, greatest]), least, greatest);

    [Fact]
    public void So_it_is_wherever_the_data_lie()
    {
        var random = new Xoshiro256(1);
        for (int i = 0; i < 1000; i++)
        {
            double least = random.NextGaussian();
            double greatest = least + Math.Pow(10, (6 * random.NextDouble()) - 5);
            HasRoom(ChartAxis.Around("values", [greatest, least]), least, greatest);
        }
    }

    [Fact]
    public void Room_is_added_only_where_the_ticks_leave_none()
    {
        var axis = ChartAxis.Around("values", [0.15, 0.36]);

        (axis.Min, axis.Max).Should().Be((0.1, 0.4));
        axis.Ticks.Select(tick => tick.Label).Should().Equal("0.1", "0.2", "0.3", "0.4");
    }

    private static void HasRoom(ChartAxis axis, double least, double greatest)
    {
        double range = axis.Max - axis.Min;
        ((axis.Position(least) - axis.Min) / range).Should().BeGreaterThan(RoomForMarker);
        ((axis.Max - axis.Position(greatest)) / range).Should().BeGreaterThan(RoomForMarker);
        double rounding = 1e-9 * range;
        axis.Ticks.Should().OnlyContain(tick => tick.At >= axis.Min - rounding && tick.At <= axis.Max + rounding);
    }
}
