using System.Collections.Concurrent;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

public class RotaryTablesTests
{
    private const int HeadWidth = 8;

    [Fact]
    public void What_a_forward_was_given_stays_when_another_asks_for_more()
    {
        using var scope = NewDisposeScope();
        using var tables = new RotaryTables(new RotaryConfig(), HeadWidth, CPU);
        var (cos, sin) = tables.For(5);
        float[] before = [.. CpuKernels.ToArray<float>(cos), .. CpuKernels.ToArray<float>(sin)];

        var (longerCos, longerSin) = tables.For(100);

        longerCos.shape[0].Should().BeGreaterThanOrEqualTo(100);
        ((float[])[.. CpuKernels.ToArray<float>(cos), .. CpuKernels.ToArray<float>(sin)]).Should().Equal(before);
        CpuKernels.ToArray<float>(longerCos).Should().StartWith(CpuKernels.ToArray<float>(cos));
        CpuKernels.ToArray<float>(longerSin).Should().StartWith(CpuKernels.ToArray<float>(sin));
    }

    [Fact]
    public void Forwards_beside_each_other_get_tables_that_are_long_enough_and_right()
    {
        var failures = new ConcurrentBag<string>();
        using var tables = new RotaryTables(new RotaryConfig(), HeadWidth, CPU);
        using var start = new Barrier(4);
        var threads = Enumerable
            .Range(0, start.ParticipantCount)
            .Select(_ => new Thread(() =>
            {
                using var scope = NewDisposeScope();
                start.SignalAndWait();
                for (int positions = 1; positions <= 300; positions++)
                {
                    float[] cos = CpuKernels.ToArray<float>(tables.For(positions).Cos);
                    // The first frequency is 1.
                    if (
                        cos.Length < positions * HeadWidth / 2
                        || cos[(positions - 1) * HeadWidth / 2] != MathF.Cos(positions - 1)
                    )
                    {
                        failures.Add($"{positions}");
                    }
                }
            }))
            .ToList();

        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());

        failures.Should().BeEmpty();
    }
}
