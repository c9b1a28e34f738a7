using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

[Collection(HasTheProcessToItself.Name)]
public class CpuForwardThreadsTests
{
    /// <summary>Those whose attention is a kernel's; libtorch promises nothing of the kind.</summary>
    public static TheoryData<string> Names =>
        [.. CpuForwardModels.Names.Where(name => name is not ("capped" or "whole-query-norm"))];

    [Theory]
    [MemberData(nameof(Names))]
    public void The_number_of_threads_changes_no_bit_of_the_forward(string name)
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        var tokensBT = CpuForwardModels.Tokens(3, 131);
        int threads = get_num_threads();
        try
        {
            set_num_threads(1);
            var alone = model.Forward(tokensBT);
            set_num_threads(3);
            var shared = model.Forward(tokensBT);

            CpuForwardModels.Difference(alone, shared).Should().Be(0);
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    /// <summary>Each from a thread of its own, on the memory that the others give back.</summary>
    [Fact]
    public void Forwards_beside_each_other_do_not_disturb_each_other()
    {
        using var scope = NewDisposeScope();
        using var model = CpuForwardModels.Make("gpt2");
        var logits = new float[4][][];
        var threads = Enumerable
            .Range(0, logits.Length)
            .Select(at => new Thread(() =>
            {
                using var own = NewDisposeScope();
                using var none = no_grad();
                logits[at] =
                [
                    .. Enumerable
                        .Range(1, 12)
                        .Select(batch =>
                            Shared.Kernels.CpuKernels.ToArray<float>(model.Forward(CpuForwardModels.Tokens(batch, 40)))
                        ),
                ];
            }))
            .ToList();

        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());

        foreach (var others in logits[1..])
        {
            others.Zip(logits[0], (a, b) => a.SequenceEqual(b)).Should().OnlyContain(same => same);
        }
    }
}
