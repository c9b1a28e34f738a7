using System.Globalization;
using System.Numerics.Tensors;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Rows of activations as a shard stores them, made by as many threads as are at hand, in memory that the next rows use
/// again. A value that the stored type cannot hold is refused here.
/// </summary>
/// <param name="dtype">The element type activations are stored in.</param>
/// <param name="width">D, values a row.</param>
public sealed class EncodedRows(ActivationDtype dtype, int width)
{
    /// <summary>Values looked at and then stored at a time: they stay in a core's cache meanwhile.</summary>
    private const int StretchValues = 1 << 16;

    private readonly ActivationCodec codec = ActivationCodec.For(dtype);
    private byte[] items = [];
    private float[] scales = [];

    public ActivationDtype Dtype => dtype;
    public int Width => width;

    /// <summary>Rows held; none after some were refused.</summary>
    public int Rows { get; private set; }

    /// <summary>The rows' bytes, [T, D] items of the stored type.</summary>
    internal ReadOnlyMemory<byte> Items => items.AsMemory(0, Rows * width * codec.ItemBytes);

    /// <summary>Each row's factor, [T]; empty where the type has none.</summary>
    internal ReadOnlySpan<float> Scales => scales.AsSpan(0, codec.HasScale ? Rows : 0);

    /// <summary>Holds these rows in place of what it held.</summary>
    /// <param name="hook">Where the activations come from, for what is said of a value that cannot be stored.</param>
    /// <param name="firstRow">The first row's index among the harvest's rows, likewise.</param>
    /// <param name="activationsTD">Activations, row-major [T, D].</param>
    /// <param name="threads">At most so many.</param>
    /// <exception cref="StageFailedException">A value is NaN, infinite or beyond the stored type's range.</exception>
    public unsafe void Encode(string hook, long firstRow, ReadOnlySpan<float> activationsTD, int threads)
    {
        Rows = activationsTD.Length / width;
        if (activationsTD.Length != (long)Rows * width)
        {
            throw new ArgumentException($"{activationsTD.Length} values are no rows of {width}", nameof(activationsTD));
        }
        MakeRoom();
        int stretch = Math.Max(1, StretchValues / width);
        bool storable = true;
        fixed (float* pinned = activationsTD)
        {
            float* values = pinned;
            Pieces.Run(
                (int)(((long)Rows + stretch - 1) / stretch),
                threads,
                piece =>
                {
                    int first = piece * stretch;
                    int rows = Math.Min(stretch, Rows - first);
                    var valuesND = new ReadOnlySpan<float>(values + ((long)first * width), rows * width);
                    if (Storable(valuesND))
                    {
                        codec.Encode(
                            valuesND,
                            items.AsSpan(first * width * codec.ItemBytes, valuesND.Length * codec.ItemBytes),
                            codec.HasScale ? scales.AsSpan(first, rows) : []
                        );
                    }
                    else
                    {
                        Volatile.Write(ref storable, false);
                    }
                }
            );
        }
        if (!storable)
        {
            Rows = 0;
            throw Unstorable(hook, firstRow, activationsTD);
        }
    }

    private void MakeRoom()
    {
        int bytes = checked(Rows * width * codec.ItemBytes);
        if (items.Length < bytes)
        {
            items = GC.AllocateUninitializedArray<byte>(bytes);
        }
        if (codec.HasScale && scales.Length < Rows)
        {
            scales = new float[Rows];
        }
    }

    /// <summary>Whether all are numbers within the type's range: MaxMagnitude hands on a NaN, which compares false.</summary>
    private bool Storable(ReadOnlySpan<float> valuesND) =>
        MathF.Abs(TensorPrimitives.MaxMagnitude(valuesND)) <= codec.Largest;

    /// <summary>What to say of the first value that cannot be stored.</summary>
    private StageFailedException Unstorable(string hook, long firstRow, ReadOnlySpan<float> valuesTD)
    {
        float limit = codec.Largest;
        int at = 0;
        while (MathF.Abs(valuesTD[at]) <= limit)
        {
            at++;
        }
        float value = valuesTD[at];
        string where = string.Create(
            CultureInfo.InvariantCulture,
            $"{hook}: row {firstRow + (at / width)}, value {at % width}"
        );
        return new StageFailedException(
            (
                float.IsFinite(value)
                    ? new Fault(
                        where,
                        value.ToString("R", CultureInfo.InvariantCulture),
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"a magnitude of at most {limit}, {Spelling.Of(dtype)}'s largest"
                        ),
                        "Set harvest `dtype: float32`"
                    )
                    : new Fault(
                        where,
                        value.ToString(CultureInfo.InvariantCulture),
                        "a finite number",
                        "Check the model's weights: the forward pass itself overflows, so `dtype: float32` does not help"
                    )
            ).ToString()
        );
    }
}
