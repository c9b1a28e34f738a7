using Pipeline.Shared.Configuration;
using Pipeline.Train;

namespace Pipeline.Tests.Train;

public sealed class ScheduleTests
{
    private static readonly SaeConfig Plain = new()
    {
        Architecture = Architecture.TopK,
        K = 8,
        Warmup = 0.1,
    };

    [Fact]
    public void Constant_rises_and_stays()
    {
        var sae = Plain with { Schedule = Schedule.Constant };

        Factors(sae, 0, 5, 10, 50, 99).Should().Equal(0, 0.5, 1, 1, 1);
    }

    [Fact]
    public void Linear_falls_at_the_end_to_what_would_be_0_one_step_later()
    {
        var sae = Plain with { Decay = 0.2 };

        Factors(sae, 0, 5, 10, 79, 80, 90, 99).Should().Equal(0, 0.5, 1, 1, 1, 0.5, 0.05);
    }

    [Fact]
    public void Cosine_is_half_way_down_half_way_through()
    {
        var sae = Plain with { Schedule = Schedule.Cosine };

        Factors(sae, 5, 10, 55, 100).Should().Equal([0.5, 1, 0.5, 1], Close); // 100 would begin again, and is not reached
        Factors(sae, 99)[0].Should().BeInRange(0, 0.001);
    }

    [Fact]
    public void Hard_restarts_go_back_to_the_peak_at_once()
    {
        var sae = Plain with { Schedule = Schedule.CosineRestarts, Cycles = 3 };

        Factors(sae, 5, 10, 25, 40, 70).Should().Equal([0.5, 1, 0.5, 1, 1], Close);
        Factors(sae, 39, 69, 99).Should().OnlyContain(factor => factor < 0.003);
    }

    [Fact]
    public void Penalties_rise_over_their_own_warm_up()
    {
        var sae = new SaeConfig
        {
            Architecture = Architecture.Standard,
            L1 = 1,
            SparsityWarmup = 0.2,
        };

        new long[] { 0, 10, 20, 99 }
            .Select(step => SparsityAtStep.Of(sae, step, 100).Scale)
            .Should()
            .Equal(0, 0.5, 1, 1);
    }

    [Fact]
    public void K_falls_linearly_and_then_stays()
    {
        var sae = Plain with { KFrom = 40, KAnneal = 0.5 };

        new long[] { 0, 25, 49, 50, 99 }
            .Select(step => SparsityAtStep.Of(sae, step, 100).K)
            .Should()
            .Equal(40, 24, 9, 8, 8);
        SparsityAtStep.Of(Plain, 0, 100).K.Should().Be(8);
    }

    [Fact]
    public void P_goes_from_1_to_its_end_in_equal_levels()
    {
        var levels = new PAnnealLevels(20, 120, 0.1);

        levels.P(levels.Level(0)).Should().Be(1);
        levels.P(levels.Level(29)).Should().Be(1);
        levels.P(levels.Level(30)).Should().BeApproximately(0.9, 1e-12);
        levels.P(levels.Level(119)).Should().BeApproximately(0.1, 1e-12);
        levels.IsAboutToChange(19).Should().BeFalse();
        levels.IsAboutToChange(20).Should().BeTrue();
        levels.IsAboutToChange(119).Should().BeFalse();
    }

    [Fact]
    public void Resampling_is_due_at_the_beginning_of_each_stretch_but_the_first_as_often_as_asked()
    {
        var sae = new SaeConfig
        {
            Architecture = Architecture.Gated,
            L1 = 1,
            Dead = DeadLatents.Resample,
            Resamplings = 3,
        };
        var resampling = NeuronResampling.Of(sae, 800, 16)!;

        Enumerable.Range(0, 800).Where(step => resampling.IsDue(step)).Should().Equal(100, 200, 300);
        resampling.WindowTokens.Should().Be(50 * 16);
        NeuronResampling.Of(sae with { ResampleEvery = new(320) }, 800, 16)!.Every.Should().Be(20);
        NeuronResampling.Of(sae with { Dead = null }, 800, 16).Should().BeNull();
    }

    private static double[] Factors(SaeConfig sae, params long[] steps) =>
        [.. steps.Select(step => LearningRateSchedule.Of(sae, step, 100))];

    private static bool Close(double a, double b) => Math.Abs(a - b) < 1e-12;
}
