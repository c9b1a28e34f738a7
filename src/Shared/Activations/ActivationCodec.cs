using System.Numerics;
using System.Runtime.InteropServices;
using Apache.Arrow;
using Apache.Arrow.Types;
using Pipeline.Shared.Configuration;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Activations;

/// <summary>How one stored type keeps rows of float32.</summary>
internal abstract class ActivationCodec
{
    public abstract int ItemBytes { get; }

    /// <summary>The type of Arrow's list items.</summary>
    public abstract IArrowType ItemType { get; }

    /// <summary>The largest magnitude that can be stored.</summary>
    public abstract float Largest { get; }

    /// <summary>Whether each row has a factor of its own, kept in the column <c>scale</c>.</summary>
    public virtual bool HasScale => false;

    public static ActivationCodec For(ActivationDtype dtype) =>
        dtype switch
        {
            ActivationDtype.Float16 => Float16Codec.Instance,
            ActivationDtype.BFloat16 => BFloat16Codec.Instance,
            ActivationDtype.Int8 => Int8Codec.Instance,
            _ => Float32Codec.Instance,
        };

    public abstract IArrowArray Array(ArrowBuffer data, int values);

    /// <param name="valuesND">Row-major [n, D].</param>
    /// <param name="bytes">n x D items.</param>
    /// <param name="scalesN">Each row's factor; empty where the type has none.</param>
    public abstract void Encode(ReadOnlySpan<float> valuesND, Span<byte> bytes, Span<float> scalesN);

    /// <param name="bytes">n x D items.</param>
    /// <param name="scalesN">Each row's factor; empty where the type has none.</param>
    /// <param name="valuesND">Row-major [n, D].</param>
    public abstract void Decode(ReadOnlySpan<byte> bytes, ReadOnlySpan<float> scalesN, Span<float> valuesND);

    private sealed class Float32Codec : ActivationCodec
    {
        public static readonly Float32Codec Instance = new();

        public override int ItemBytes => sizeof(float);
        public override IArrowType ItemType => FloatType.Default;
        public override float Largest => float.MaxValue;

        public override IArrowArray Array(ArrowBuffer data, int values) =>
            new FloatArray(data, ArrowBuffer.Empty, values, 0, 0);

        public override void Encode(ReadOnlySpan<float> valuesND, Span<byte> bytes, Span<float> scalesN) =>
            MemoryMarshal.AsBytes(valuesND).CopyTo(bytes);

        public override void Decode(ReadOnlySpan<byte> bytes, ReadOnlySpan<float> scalesN, Span<float> valuesND) =>
            bytes.CopyTo(MemoryMarshal.AsBytes(valuesND));
    }

    private sealed class Float16Codec : ActivationCodec
    {
        public static readonly Float16Codec Instance = new();

        public override int ItemBytes => 2;
        public override IArrowType ItemType => HalfFloatType.Default;
        public override float Largest => 65504f;

        public override IArrowArray Array(ArrowBuffer data, int values) =>
            new HalfFloatArray(data, ArrowBuffer.Empty, values, 0, 0);

        public override void Encode(ReadOnlySpan<float> valuesND, Span<byte> bytes, Span<float> scalesN) =>
            TensorPrimitives.ConvertToHalf(valuesND, MemoryMarshal.Cast<byte, Half>(bytes));

        public override void Decode(ReadOnlySpan<byte> bytes, ReadOnlySpan<float> scalesN, Span<float> valuesND) =>
            TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(bytes), valuesND);
    }

    /// <summary>The upper half of a float32, rounded to nearest, ties to even. Arrow has no such type: uint16 holds the bits.</summary>
    private sealed class BFloat16Codec : ActivationCodec
    {
        public static readonly BFloat16Codec Instance = new();

        public override int ItemBytes => 2;
        public override IArrowType ItemType => UInt16Type.Default;
        public override float Largest => BitConverter.UInt32BitsToSingle(0x7F7F_0000);

        public override IArrowArray Array(ArrowBuffer data, int values) =>
            new UInt16Array(data, ArrowBuffer.Empty, values, 0, 0);

        public override void Encode(ReadOnlySpan<float> valuesND, Span<byte> bytes, Span<float> scalesN)
        {
            var source = MemoryMarshal.Cast<float, uint>(valuesND);
            var target = MemoryMarshal.Cast<byte, ushort>(bytes);
            int step = Vector<ushort>.Count;
            int i = 0;
            for (; i + step <= source.Length; i += step)
            {
                var low = Rounded(new Vector<uint>(source[i..]));
                var high = Rounded(new Vector<uint>(source[(i + (step / 2))..]));
                Vector.Narrow(low, high).CopyTo(target[i..]);
            }
            for (; i < source.Length; i++)
            {
                target[i] = (ushort)((source[i] + 0x7FFF + ((source[i] >> 16) & 1)) >> 16);
            }
        }

        public override void Decode(ReadOnlySpan<byte> bytes, ReadOnlySpan<float> scalesN, Span<float> valuesND)
        {
            var source = MemoryMarshal.Cast<byte, ushort>(bytes);
            var target = MemoryMarshal.Cast<float, uint>(valuesND);
            int step = Vector<ushort>.Count;
            int i = 0;
            for (; i + step <= source.Length; i += step)
            {
                Vector.Widen(new Vector<ushort>(source[i..]), out var low, out var high);
                Vector.ShiftLeft(low, 16).CopyTo(target[i..]);
                Vector.ShiftLeft(high, 16).CopyTo(target[(i + (step / 2))..]);
            }
            for (; i < source.Length; i++)
            {
                target[i] = (uint)source[i] << 16;
            }
        }

        private static Vector<uint> Rounded(Vector<uint> bits)
        {
            var upper = Vector.ShiftRightLogical(bits, 16);
            return Vector.ShiftRightLogical(bits + new Vector<uint>(0x7FFF) + (upper & Vector<uint>.One), 16);
        }
    }

    /// <summary>x = q · scale with q from -127 to 127 and scale = max |x| / 127 of the row.</summary>
    private sealed class Int8Codec : ActivationCodec
    {
        public static readonly Int8Codec Instance = new();

        private const float Steps = 127;

        public override int ItemBytes => 1;
        public override IArrowType ItemType => Int8Type.Default;
        public override float Largest => float.MaxValue;
        public override bool HasScale => true;

        public override IArrowArray Array(ArrowBuffer data, int values) =>
            new Int8Array(data, ArrowBuffer.Empty, values, 0, 0);

        public override void Encode(ReadOnlySpan<float> valuesND, Span<byte> bytes, Span<float> scalesN)
        {
            int width = valuesND.Length / scalesN.Length;
            float[] scaled = new float[width];
            for (int row = 0; row < scalesN.Length; row++)
            {
                var valuesD = valuesND.Slice(row * width, width);
                float scale = MathF.Abs(TensorPrimitives.MaxMagnitude(valuesD)) / Steps;
                // So close to zero that 1 / scale overflows: the row is zero.
                scale = float.IsFinite(1 / scale) ? scale : 0;
                scalesN[row] = scale;
                TensorPrimitives.Multiply(valuesD, scale == 0 ? 0 : 1 / scale, scaled);
                TensorPrimitives.Round(scaled, scaled);
                TensorPrimitives.ConvertSaturating<float, sbyte>(
                    scaled,
                    MemoryMarshal.Cast<byte, sbyte>(bytes.Slice(row * width, width))
                );
            }
        }

        public override void Decode(ReadOnlySpan<byte> bytes, ReadOnlySpan<float> scalesN, Span<float> valuesND)
        {
            int width = valuesND.Length / scalesN.Length;
            var source = MemoryMarshal.Cast<byte, sbyte>(bytes);
            for (int row = 0; row < scalesN.Length; row++)
            {
                Decode(source.Slice(row * width, width), scalesN[row], valuesND.Slice(row * width, width));
            }
        }

        private static void Decode(ReadOnlySpan<sbyte> source, float scale, Span<float> valuesD)
        {
            int step = Vector<sbyte>.Count;
            int quarter = step / 4;
            int i = 0;
            for (; i + step <= source.Length; i += step)
            {
                Vector.Widen(new Vector<sbyte>(source[i..]), out var low, out var high);
                Vector.Widen(low, out var first, out var second);
                Vector.Widen(high, out var third, out var fourth);
                (Vector.ConvertToSingle(first) * scale).CopyTo(valuesD[i..]);
                (Vector.ConvertToSingle(second) * scale).CopyTo(valuesD[(i + quarter)..]);
                (Vector.ConvertToSingle(third) * scale).CopyTo(valuesD[(i + (2 * quarter))..]);
                (Vector.ConvertToSingle(fourth) * scale).CopyTo(valuesD[(i + (3 * quarter))..]);
            }
            for (; i < source.Length; i++)
            {
                valuesD[i] = source[i] * scale;
            }
        }
    }
}
