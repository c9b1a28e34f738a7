using System.Buffers.Binary;
using System.Text;
using Pipeline.Shared;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Tensors;

public class SafetensorsTests
{
    [Fact]
    public void What_is_written_reads_back_in_its_own_type()
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        (string, Tensor)[] tensors =
        [
            ("a", randn(3, 5)),
            ("b", arange(7)),
            ("c", randn(2, 2).to(float16)),
            ("empty", zeros(0, 4)),
            ("view", randn(4, 6).t()),
        ];
        string path = Write(
            folder,
            stream => SafetensorsWriter.Write(stream, tensors, new Dictionary<string, string> { ["k"] = "v" })
        );

        using var file = SafetensorsFile.Open(path);

        file.Metadata["k"].Should().Be("v");
        foreach (var (name, value) in tensors)
        {
            var read = file.Load(name);
            read.dtype.Should().Be(value.dtype);
            read.shape.Should().Equal(value.shape);
            read.equal(value).all().item<bool>().Should().BeTrue(name);
        }
        file.LoadFloat32("c").equal(tensors[2].Item2.to(float32)).all().item<bool>().Should().BeTrue();
    }

    [Theory]
    [InlineData(ScalarType.Float16)]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.Float64)]
    public void A_tensor_that_is_read_in_many_pieces_is_widened_as_libtorch_does(ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        var stored = randn(1000, 1003).to(type);
        string path = Write(
            folder,
            stream => SafetensorsWriter.Write(stream, [("before", ones(3)), ("a", stored), ("behind", ones(5))])
        );

        using var file = SafetensorsFile.Open(path);

        file.LoadFloat32("a").equal(stored.to(float32)).all().item<bool>().Should().BeTrue();
        file.LoadFloat32("behind").equal(ones(5)).all().item<bool>().Should().BeTrue();
    }

    [Theory]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float32)]
    public void A_file_that_is_cut_after_it_was_opened_is_a_typed_error_that_names_the_tensor(ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        string path = Write(folder, stream => SafetensorsWriter.Write(stream, [("a", ones(1000, 1000).to(type))]));
        using var file = SafetensorsFile.Open(path);
        using (var cut = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            cut.SetLength(cut.Length - 1);
        }

        // Should().Throw would look into an AggregateException, which nobody else does.
        Assert
            .Throws<CorruptArtifactException>(() => file.LoadFloat32("a"))
            .Message.Should()
            .Match($"{path}: tensor a*end of the file*cut since it was opened*");
    }

    [Fact]
    public void The_same_tensors_give_the_same_bytes()
    {
        using var scope = NewDisposeScope();
        var value = randn(9, 9);
        byte[] Bytes()
        {
            using var stream = new MemoryStream();
            SafetensorsWriter.Write(stream, [("w", value)], null, ScalarType.Float16);
            return stream.ToArray();
        }
        Bytes().Should().Equal(Bytes());
    }

    public static TheoryData<string, string, int> MalformedHeaders() =>
        new()
        {
            { "not JSON", "{", 0 },
            { "not an object", "[]", 0 },
            { "entry is a number", """{"a": 1}""", 0 },
            { "no dtype", """{"a": {"shape": [1], "data_offsets": [0, 4]}}""", 4 },
            { "no shape", """{"a": {"dtype": "F32", "data_offsets": [0, 4]}}""", 4 },
            { "no offsets", """{"a": {"dtype": "F32", "shape": [1]}}""", 4 },
            { "unknown dtype", """{"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}""", 4 },
            { "negative size", """{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}""", 4 },
            { "size that is no integer", """{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}""", 4 },
            {
                "overflowing shape",
                """{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}""",
                4
            },
            { "offsets beyond the file", """{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}""", 4 },
            { "offsets backwards", """{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}""", 4 },
            { "one offset", """{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}""", 4 },
            {
                "bytes that do not fit the shape",
                """{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}""",
                4
            },
            { "a hole", """{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}""", 8 },
            {
                "an overlap",
                """{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}""",
                12
            },
            { "trailing bytes", """{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}""", 9 },
            {
                "duplicate names",
                """{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}""",
                1
            },
            { "metadata that is no text", """{"__metadata__": {"k": 1}}""", 0 },
            { "metadata that is no object", """{"__metadata__": "k"}""", 0 },
        };

    [Theory]
    [MemberData(nameof(MalformedHeaders))]
    public void A_malformed_header_is_a_typed_error_that_names_the_file(string what, string header, int dataBytes)
    {
        using var folder = new TempFolder();
        string path = Write(
            folder,
            stream => WriteRaw(stream, header, (ulong)Encoding.UTF8.GetByteCount(header), dataBytes)
        );

        ((Action)(() => SafetensorsFile.Open(path).Dispose()))
            .Should()
            .Throw<CorruptArtifactException>(what)
            .Which.Message.Should()
            .Contain(path);
    }

    public static TheoryData<string> MalformedEntries()
    {
        string[] dtypes = ["1", "null", "[]", "\"\"", "\"f32\"", "\"F32 \"", "{}", "true", "\"\\ud800\""];
        string[] shapes =
        [
            "1",
            "null",
            "\"1\"",
            "{}",
            "[[1]]",
            "[\"1\"]",
            "[1e30]",
            "[9223372036854775808]",
            "[true]",
            "[null]",
            "[-9223372036854775808]",
            "[9223372036854775807, 9223372036854775807]",
            "[2]",
            "[0]",
            "[1, 1, 2]",
            $"[{string.Join(',', Enumerable.Repeat(1, 65))}]",
        ];
        string[] offsets =
        [
            "null",
            "4",
            "\"0,4\"",
            "{}",
            "[]",
            "[0, 4, 4]",
            "[0, \"4\"]",
            "[0, 4.5]",
            "[-4, 0]",
            "[0, 9223372036854775808]",
            "[0, 9223372036854775807]",
            "[null, null]",
            "[4, 4]",
            "[0, 3]",
            "[1, 5]",
        ];
        string Entry(string dtype, string shape, string offset) =>
            $"{{\"a\": {{\"dtype\": {dtype}, \"shape\": {shape}, \"data_offsets\": {offset}}}}}";
        string[] entries = ["null", "1", "\"x\"", "[]", "true"];
        const string F32 = "\"F32\"";
        return
        [
            .. dtypes.Select(dtype => Entry(dtype, "[1]", "[0, 4]")),
            .. shapes.Select(shape => Entry(F32, shape, "[0, 4]")),
            .. offsets.Select(offset => Entry(F32, "[1]", offset)),
            .. entries.Select(entry => $"{{\"a\": {entry}}}"),
            """{"__metadata__": null}""",
            """{"__metadata__": [1]}""",
            """{"__metadata__": {"a": {"b": "c"}}}""",
            "null",
            "1",
            "\"a\"",
            "",
            "{} x",
            "{}{}",
            "\0\0\0\0",
            "\ufeff{}",
            "{\"a\": " + new string('[', 100_000),
            new string('{', 100_000),
            "{\"a\": {\"dtype\": \"F32\", \"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
        ];
    }

    [Theory]
    [MemberData(nameof(MalformedEntries), DisableDiscoveryEnumeration = true)]
    public void A_malformed_entry_is_a_typed_error_in_little_memory(string header)
    {
        using var folder = new TempFolder();
        string path = Write(
            folder,
            stream => WriteRaw(stream, header, (ulong)Encoding.UTF8.GetByteCount(header), dataBytes: 4)
        );
        long before = GC.GetAllocatedBytesForCurrentThread();

        ((Action)(() => SafetensorsFile.Open(path).Dispose()))
            .Should()
            .Throw<CorruptArtifactException>(header[..Math.Min(80, header.Length)])
            .Which.Message.Should()
            .Contain(path);

        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(64 << 20);
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(100_000_001ul)]
    [InlineData(3ul)]
    public void A_header_length_that_lies_is_a_typed_error(ulong length)
    {
        using var folder = new TempFolder();
        string path = Write(folder, stream => WriteRaw(stream, "{}", length, 0));

        ((Action)(() => SafetensorsFile.Open(path).Dispose())).Should().Throw<CorruptArtifactException>();
    }

    [Fact]
    public void Every_truncation_is_a_typed_error()
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        string whole = Write(folder, stream => SafetensorsWriter.Write(stream, [("a", ones(4)), ("b", ones(2, 2))]));
        byte[] bytes = File.ReadAllBytes(whole);
        for (int length = 0; length < bytes.Length; length++)
        {
            string path = Write(folder, stream => stream.Write(bytes, 0, length));
            ((Action)(() => SafetensorsFile.Open(path).Dispose())).Should().Throw<CorruptArtifactException>();
        }
    }

    private static void WriteRaw(Stream stream, string header, ulong length, int dataBytes)
    {
        Span<byte> prefix = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, length);
        stream.Write(prefix);
        stream.Write(Encoding.UTF8.GetBytes(header));
        stream.Write(new byte[dataBytes]);
    }

    private static string Write(TempFolder folder, Action<Stream> write)
    {
        string path = folder.File($"{Guid.NewGuid()}.safetensors");
        using var stream = File.Create(path);
        write(stream);
        return path;
    }
}
