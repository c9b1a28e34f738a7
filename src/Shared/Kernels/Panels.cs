using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels;

/// <summary>How a matrix [rows, D] lies in memory so that a block of it stays in the first-level cache: [rows / 48][D / 128][48][128].</summary>
/// <remarks>D is filled up with zeros to a multiple of 16; the last block of a row of blocks is as narrow as what is left.</remarks>
/// <param name="Width">D.</param>
public readonly record struct Panels(int Width)
{
    /// <summary>Rows of a block; a mask has a bit for each.</summary>
    public const int BlockRows = 48;

    /// <summary>Columns of a block: 8 vectors of 16.</summary>
    public const int BlockWidth = 128;

    /// <summary>D with its zeros.</summary>
    public int Padded => (Width + 15) / 16 * 16;

    /// <summary>Blocks beside each other.</summary>
    public int Across => (Padded + BlockWidth - 1) / BlockWidth;

    /// <summary>Blocks below each other that hold a number of rows.</summary>
    public static int Down(int rows) => (rows + BlockRows - 1) / BlockRows;

    /// <summary>Floats that a number of rows takes.</summary>
    public long Length(int rows) => (long)Down(rows) * BlockRows * Padded;

    /// <summary>Columns of a block, and floats from one row of it to the next.</summary>
    public int WidthOf(int across) => Math.Min(BlockWidth, Padded - (across * BlockWidth));

    /// <summary>Where a block begins.</summary>
    public long Start(int down, int across) => ((long)down * BlockRows * Padded) + (BlockRows * BlockWidth * across);

    /// <summary>Where a row's part in a block begins.</summary>
    public long Start(int row, int across, int widthOf) =>
        Start(row / BlockRows, across) + (row % BlockRows * (long)widthOf);

    /// <summary>Asks for a block in the second-level cache. Masked reading skips about in it, which no hardware foresees.</summary>
    public unsafe void Prefetch(float* panels, int down, int across)
    {
        if (Sse.IsSupported)
        {
            float* block = panels + Start(down, across);
            for (int at = 0; at < BlockRows * WidthOf(across); at += Vector512<float>.Count)
            {
                Sse.Prefetch1(block + at);
            }
        }
    }

    /// <summary>Lays a row out.</summary>
    /// <param name="row">D values.</param>
    /// <param name="panels">Where the panels begin.</param>
    /// <param name="at">Which row of them it becomes.</param>
    public unsafe void Put(ReadOnlySpan<float> row, float* panels, int at)
    {
        for (int across = 0; across < Across; across++)
        {
            int width = WidthOf(across);
            var part = row[(across * BlockWidth)..Math.Min(Width, (across + 1) * BlockWidth)];
            var target = new Span<float>(panels + Start(at, across, width), width);
            part.CopyTo(target);
            target[part.Length..].Clear();
        }
    }

    /// <summary>Reads a row back.</summary>
    /// <param name="panels">Where the panels begin.</param>
    /// <param name="at">Which row.</param>
    /// <param name="row">Receives D values.</param>
    public unsafe void Take(float* panels, int at, Span<float> row)
    {
        for (int across = 0; across < Across; across++)
        {
            int width = WidthOf(across);
            var part = row[(across * BlockWidth)..Math.Min(Width, (across + 1) * BlockWidth)];
            new ReadOnlySpan<float>(panels + Start(at, across, width), part.Length).CopyTo(part);
        }
    }
}
