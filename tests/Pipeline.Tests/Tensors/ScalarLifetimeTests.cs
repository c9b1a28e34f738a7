using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Tensors;

/// <summary>docs/decisions/0004: numbers passed to operations must survive a collection on another thread.</summary>
public class ScalarLifetimeTests
{
    [Fact]
    public void Operations_with_numbers_survive_collections_on_another_thread()
    {
        using var stop = new CancellationTokenSource();
        var collector = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                GC.Collect(0);
                GC.WaitForPendingFinalizers();
            }
        });
        collector.Start();
        try
        {
            using var none = no_grad();
            using var x = ones(64, 64);
            for (int i = 0; i < 300_000; i++)
            {
                using var scope = NewDisposeScope();
                if (((x * 3.25) + 1.5).sum().item<float>() != 64 * 64 * 4.75f)
                {
                    Assert.Fail($"round {i} computed with another number");
                }
            }
        }
        finally
        {
            stop.Cancel();
            collector.Join();
        }
    }

    [Fact]
    public void TorchSharp_is_loaded_without_optimisation()
    {
        var attribute = (System.Diagnostics.DebuggableAttribute?)
            Attribute.GetCustomAttribute(typeof(torch).Assembly, typeof(System.Diagnostics.DebuggableAttribute));

        attribute!.IsJITOptimizerDisabled.Should().BeTrue();
    }
}
