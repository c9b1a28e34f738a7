using System.Buffers.Binary;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A model file of llama2.c (karpathy/llama2.c, export.py): a header of seven numbers, then a Llama's float32 weights in a
/// fixed order without names. Version 0 is what run.c reads; version 1 has a magic number, 256 bytes of header and another
/// order. Tensors are given under Hugging Face's names and in its order of rotated rows, so that they load as any Llama's.
/// </summary>
public sealed class Llama2cFile : ITensorFile
{
    private const uint Magic = 0x616b3432; // "ak42"
    private const int LegacyHeaderBytes = 7 * sizeof(int);
    private const int HeaderBytes = 256;
    private const int LargestSize = 1 << 24;
    private const int ChunkBytes = 4 << 20;
    private const string NotAModel =
        "Name a model file of llama2.c (export.py, version 0 or 1), or the folder of a Hugging Face model";

    private readonly FileStream stream;
    private readonly Dictionary<string, Placed> tensors = new(StringComparer.Ordinal);

    private Llama2cFile(string path, FileStream stream)
    {
        (Path, this.stream) = (path, stream);
        var header = ReadHeader();
        Config = ConfigOf(header);
        Place(header);
        Shapes = tensors.ToDictionary(pair => pair.Key, pair => pair.Value.Shape, StringComparer.Ordinal);
    }

    public string Path { get; }

    public IReadOnlyDictionary<string, long[]> Shapes { get; }

    /// <summary>What the header says, and what llama2.c takes for granted: epsilon, rotary base, BOS and EOS.</summary>
    public TransformerConfig Config { get; }

    /// <exception cref="CorruptArtifactException">Another format or version, or a length that the header does not imply.</exception>
    public static Llama2cFile Open(string path)
    {
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        try
        {
            return new Llama2cFile(path, stream);
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    public Tensor Load(string name) => LoadFloat32(name);

    public Tensor LoadFloat32(string name)
    {
        var tensor = empty(Find(name).Shape, ScalarType.Float32);
        LoadFloat32Into(name, tensor);
        return tensor;
    }

    public void LoadFloat32Into(string name, Tensor target)
    {
        ArgumentNullException.ThrowIfNull(target);
        var placed = Find(name);
        if (placed.RotatedHeads == 0)
        {
            Fill(name, placed.Begin, target);
            return;
        }
        // llama2.c rotates the pairs (2i, 2i + 1) of a head, Hugging Face (i, i + half).
        using var scope = NewDisposeScope();
        long columns = placed.Shape[^1];
        long headRows = placed.Shape[0] / placed.RotatedHeads;
        var storedRD = empty(headRows, columns);
        for (int head = 0; head < placed.RotatedHeads; head++)
        {
            Fill(name, placed.Begin + (head * storedRD.numel() * sizeof(float)), storedRD);
            target
                .narrow(0, head * headRows, headRows)
                .view(2, headRows / 2, columns)
                .copy_(storedRD.view(headRows / 2, 2, columns).transpose(0, 1));
        }
    }

    public void Dispose() => stream.Dispose();

    private Header ReadHeader()
    {
        Span<byte> bytes = stackalloc byte[HeaderBytes];
        int length = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        if (length < LegacyHeaderBytes)
        {
            throw Corrupt("header", $"a file of {length} bytes", $"at least {LegacyHeaderBytes}", NotAModel);
        }
        bool versioned = BinaryPrimitives.ReadUInt32LittleEndian(bytes) == Magic;
        if (versioned && length < HeaderBytes)
        {
            throw Corrupt("header", $"a file of {length} bytes", $"at least {HeaderBytes}", NotAModel);
        }
        int version = versioned ? BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]) : 0;
        if (versioned && version != 1)
        {
            throw Corrupt(
                "version",
                $"{version}",
                "0 or 1, whose weights are float32",
                "Export the model again with version 1 (version 2 holds quantised weights)"
            );
        }
        var sizes = new int[7];
        for (int i = 0; i < sizes.Length; i++)
        {
            sizes[i] = BinaryPrimitives.ReadInt32LittleEndian(bytes[((versioned ? 8 : 0) + (i * sizeof(int)))..]);
        }
        // Version 0 says by a negative vocabulary that the unembedding is not the embedding, version 1 by a byte.
        bool tied = versioned ? bytes[8 + LegacyHeaderBytes] != 0 : sizes[5] > 0;
        sizes[5] = versioned || sizes[5] == int.MinValue ? sizes[5] : Math.Abs(sizes[5]);
        var header = new Header(version, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], tied);
        RequireSound(header, sizes);
        return header;
    }

    private void RequireSound(Header header, int[] sizes)
    {
        string[] names = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len"];
        for (int i = 0; i < sizes.Length; i++)
        {
            if (sizes[i] is < 1 or > LargestSize)
            {
                throw Corrupt($"header: {names[i]}", $"{sizes[i]}", $"1 to {LargestSize}", NotAModel);
            }
        }
        if (header.Dim % header.Heads != 0 || header.HeadWidth % 2 != 0 || header.Heads % header.KvHeads != 0)
        {
            throw Corrupt(
                "header: n_heads",
                $"{header.Heads} with dim {header.Dim} and n_kv_heads {header.KvHeads}",
                "heads of one even width, in equal groups",
                NotAModel
            );
        }
    }

    private static TransformerConfig ConfigOf(Header header) =>
        new()
        {
            Family = "llama",
            Vocabulary = header.Vocabulary,
            Width = header.Dim,
            Layers = header.Layers,
            Heads = header.Heads,
            KeyValueHeads = header.KvHeads,
            HeadWidth = header.HeadWidth,
            MlpWidth = header.HiddenDim,
            Context = header.Context,
            Norm = NormKind.RmsNorm,
            NormEpsilon = 1e-5,
            Activation = ActivationKind.Silu,
            GatedMlp = true,
            Rotary = new RotaryConfig(),
            TiedEmbeddings = header.Tied,
            BosId = 1,
            EosId = 2,
        };

    /// <summary>Gives every tensor its place, once the file's length is what its header implies.</summary>
    private void Place(Header header)
    {
        var parts = header.Version == 0 ? Version0(header) : Version1(header);
        int begin = header.Version == 0 ? LegacyHeaderBytes : HeaderBytes;
        // Before anything is made a layer: a damaged header may ask for any number of them.
        var implied = parts.Aggregate(
            (Int128)begin,
            (bytes, part) => bytes + ((Int128)part.Values * sizeof(float) * (part.PerLayer ? header.Layers : 1))
        );
        if (stream.Length != implied)
        {
            throw Corrupt(
                "file",
                $"{stream.Length} bytes",
                $"{implied}, as its header implies",
                "The file is cut or damaged, or no model of llama2.c: download or write it again"
            );
        }
        long at = begin;
        foreach (var part in parts)
        {
            for (int layer = 0; layer < (part.PerLayer ? header.Layers : 1); layer++)
            {
                string name = part.PerLayer ? $"model.layers.{layer}.{part.Name}" : part.Name;
                if (name.Length > 0)
                {
                    tensors.Add($"{name}.weight", new Placed(part.Shape, at, part.RotatedHeads));
                }
                at += part.Values * sizeof(float);
            }
        }
    }

    /// <summary>legacy_export: as run.c walks them, with tables of rotary frequencies, which are not read.</summary>
    private static List<Part> Version0(Header header)
    {
        var frequencies = new Part("", false, [header.Context, header.HeadWidth / 2]);
        return
        [
            Embedding(header),
            AttentionNorm(header),
            .. Attention(header),
            MlpNorm(header),
            .. Mlp(header),
            FinalNorm(header),
            frequencies,
            frequencies,
            .. Unembedding(header),
        ];
    }

    /// <summary>version1_export: norms first.</summary>
    private static List<Part> Version1(Header header) =>
        [
            AttentionNorm(header),
            MlpNorm(header),
            FinalNorm(header),
            Embedding(header),
            .. Attention(header),
            .. Mlp(header),
            .. Unembedding(header),
        ];

    private static Part Embedding(Header header) => new("model.embed_tokens", false, [header.Vocabulary, header.Dim]);

    private static Part AttentionNorm(Header header) => new("input_layernorm", true, [header.Dim]);

    private static Part MlpNorm(Header header) => new("post_attention_layernorm", true, [header.Dim]);

    private static Part FinalNorm(Header header) => new("model.norm", false, [header.Dim]);

    private static Part[] Attention(Header header)
    {
        long keys = (long)header.KvHeads * header.HeadWidth;
        return
        [
            new("self_attn.q_proj", true, [header.Dim, header.Dim], header.Heads),
            new("self_attn.k_proj", true, [keys, header.Dim], header.KvHeads),
            new("self_attn.v_proj", true, [keys, header.Dim]),
            new("self_attn.o_proj", true, [header.Dim, header.Dim]),
        ];
    }

    private static Part[] Mlp(Header header) =>
        [
            new("mlp.gate_proj", true, [header.HiddenDim, header.Dim]),
            new("mlp.down_proj", true, [header.Dim, header.HiddenDim]),
            new("mlp.up_proj", true, [header.HiddenDim, header.Dim]),
        ];

    private static Part[] Unembedding(Header header) =>
        header.Tied ? [] : [new("lm_head", false, [header.Vocabulary, header.Dim])];

    private unsafe void Fill(string name, long begin, Tensor target)
    {
        byte* bytes = (byte*)CpuKernels.Floats(target);
        long count = target.numel() * sizeof(float);
        try
        {
            stream.Position = begin;
            for (long at = 0; at < count; at += ChunkBytes)
            {
                stream.ReadExactly(new Span<byte>(bytes + at, (int)Math.Min(ChunkBytes, count - at)));
            }
        }
        catch (EndOfStreamException)
        {
            throw Corrupt(
                $"tensor {name}",
                "the end of the file",
                $"{count} bytes from byte {begin}",
                "The file was cut since it was opened: download or write it again"
            );
        }
    }

    private Placed Find(string name) =>
        tensors.TryGetValue(name, out var placed)
            ? placed
            : throw Corrupt($"tensor {name}", "no such tensor", "a weight of a Llama", NotAModel);

    private CorruptArtifactException Corrupt(string field, string found, string expected, string remedy) =>
        new(new Fault($"{Path}: {field}", found, expected, remedy).ToString());

    private sealed record Header(
        int Version,
        int Dim,
        int HiddenDim,
        int Layers,
        int Heads,
        int KvHeads,
        int Vocabulary,
        int Context,
        bool Tied
    )
    {
        public int HeadWidth => Dim / Heads;
    }

    /// <summary>A tensor, or one for each layer in turn; without a name it is passed over.</summary>
    private sealed record Part(string Name, bool PerLayer, long[] Shape, int RotatedHeads = 0)
    {
        public long Values => Shape.Aggregate(1L, (product, size) => product * size);
    }

    /// <param name="Shape">Of the tensor.</param>
    /// <param name="Begin">Its first byte in the file.</param>
    /// <param name="RotatedHeads">Heads whose rows are rotated in pairs; 0 for what is not rotated.</param>
    private sealed record Placed(long[] Shape, long Begin, int RotatedHeads);
}
