using Pipeline.Train;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

public class FiringCounterTests
{
    [Fact]
    public void Dead_are_those_silent_for_long_and_all_of_them_might_have_been_before_the_count()
    {
        using var scope = NewDisposeScope();
        var tokensSinceFired = tensor([0L, 89, 90, 200, 90]);
        var counter = new FiringCounter(tokensSinceFired, deadAfter: 100, tokens: 10);

        var mayBe = counter.DeadUnlessFiringF();
        var dead = counter.CountAndFindDead(tensor([true, false, false, false, true]));

        mayBe.data<bool>().ToArray().Should().Equal(false, false, true, true, true);
        dead.data<bool>().ToArray().Should().Equal(false, false, true, true, false);
        tokensSinceFired.data<long>().ToArray().Should().Equal(0, 99, 100, 210, 0);
    }
}
