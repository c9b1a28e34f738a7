namespace Pipeline.Shared.Kernels.Screening;

/// <summary>The plain twin: one product at a time.</summary>
internal readonly struct ScreenTileScalar : IScreenTile
{
    public static int Latents => 16;

    public static unsafe void Multiply(int* xPR, int* wPL, int pairs, int* sumsRL)
    {
        for (int r = 0; r < IScreenTile.Rows; r++)
        {
            for (int l = 0; l < Latents; l++)
            {
                int sum = 0;
                for (int p = 0; p < pairs; p++)
                {
                    int x = xPR[(p * IScreenTile.Rows) + r];
                    int w = wPL[(p * Latents) + l];
                    sum += ((short)x * (short)w) + ((x >> 16) * (w >> 16));
                }
                sumsRL[(r * Latents) + l] = sum;
            }
        }
    }

    public static unsafe int Collect(
        int* sumsL,
        float* scalesL,
        float* biasesL,
        float xScale,
        float slack,
        float floor,
        int first,
        Candidates found
    )
    {
        int count = 0;
        for (int l = 0; l < Latents; l++)
        {
            float most = MathF.FusedMultiplyAdd(
                MathF.FusedMultiplyAdd(sumsL[l], xScale, slack),
                scalesL[l],
                biasesL[l]
            );
            if (most >= floor)
            {
                found.Latents[count] = first + l;
                found.Most[count] = most;
                found.Least[count] = MathF.FusedMultiplyAdd(
                    MathF.FusedMultiplyAdd(sumsL[l], xScale, -slack),
                    scalesL[l],
                    biasesL[l]
                );
                count++;
            }
        }
        return count;
    }
}
