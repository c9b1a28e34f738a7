using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Kernels;

public unsafe class TransposeKernelTests
{
    private static readonly (int Rows, int Columns)[] Sizes =
    [
        (1, 1),
        (1, 33),
        (33, 1),
        (16, 64),
        (15, 17),
        (100, 130),
        (768, 200),
    ];

    public static TheoryData<int, int, int> Shapes =>
        [.. from size in Sizes from threads in Enumerable.Range(1, 3) select (size.Rows, size.Columns, threads)];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void A_transposed_matrix_is_the_one_of_libtorch(int rows, int columns, int threads)
    {
        using var scope = NewDisposeScope();
        var xRC = arange(rows * columns, float32).view(rows, columns);
        var xCR = full(columns, rows, float.NaN);

        TransposeKernel.Transpose(CpuKernels.Floats(xRC), rows, columns, CpuKernels.Floats(xCR), threads);

        xCR.equal(xRC.t()).all().item<bool>().Should().BeTrue();
    }
}
