using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Pipeline.Shared;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tensors.Pickle;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Tensors;

public class StateDictTests
{
    [Fact]
    public void Every_state_dict_the_peers_wrote_opens_and_all_its_tensors_load()
    {
        using var scope = NewDisposeScope();
        string root = TestData.Require("data");
        string[] paths = [.. Directory.EnumerateFiles(root, "*.pt", SearchOption.AllDirectories)];
        paths.Should().HaveCountGreaterThan(5);
        foreach (string path in paths)
        {
            using var file = StateDictFile.Open(path);
            file.Shapes.Should().NotBeEmpty(path);
            foreach (var (name, shape) in file.Shapes)
            {
                using var tensor = file.Load(name);
                tensor.shape.Should().Equal(shape, $"{path}: {name}");
                if (tensor.is_floating_point())
                {
                    tensor.isnan().any().item<bool>().Should().BeFalse($"{path}: {name}");
                }
            }
        }
    }

    public static TheoryData<ScalarType> Types =>
        [
            ScalarType.Float64,
            ScalarType.Float32,
            ScalarType.Float16,
            ScalarType.BFloat16,
            ScalarType.Int64,
            ScalarType.Int32,
            ScalarType.Int16,
            ScalarType.Int8,
            ScalarType.Byte,
            ScalarType.Bool,
        ];

    [Theory]
    [MemberData(nameof(Types))]
    public void Tensors_of_every_type_are_read_as_they_were_written(ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        var value = (arange(24).reshape(2, 3, 4) % 2).to(type);
        var scalar = tensor(1).to(type);
        string path = Save(folder, [("a", value), ("b", scalar), ("none", zeros(0, 3).to(type))]);

        using var file = StateDictFile.Open(path);

        file.Load("a").dtype.Should().Be(type);
        file.Load("a").shape.Should().Equal(2, 3, 4);
        file.Load("a").eq(value).all().item<bool>().Should().BeTrue();
        file.Load("b").shape.Should().BeEmpty();
        file.Load("none").shape.Should().Equal(0, 3);
    }

    [Fact]
    public void Values_that_are_no_tensors_are_read_as_they_were_written()
    {
        using var folder = new TempFolder();
        string path = Save(
            folder,
            [
                ("name", "TopK é"),
                ("many", 5_000_000_000L),
                ("less", -7L),
                ("yes", true),
                ("inner", new List<(string, object)> { ("k", 32L), ("post", "ReLU") }),
            ]
        );

        using var file = StateDictFile.Open(path);

        file.Values["name"].Should().Be("TopK é");
        file.Values["many"].Should().Be(5_000_000_000L);
        file.Values["less"].Should().Be(-7L);
        file.Values["yes"].Should().Be(true);
        file.Values["inner"].Should().BeOfType<PickledDictionary>().Which["k"].Should().Be(32L);
    }

    [Fact]
    public void The_same_values_give_the_same_bytes()
    {
        using var folder = new TempFolder();
        using var value = arange(6);
        byte[] first = File.ReadAllBytes(Save(folder, [("a", value)]));
        File.ReadAllBytes(Save(folder, [("a", value)])).Should().Equal(first);
    }

    [Theory]
    [InlineData("cos\nsystem\n(X\x04\0\0\0echotR.", "os.system")]
    [InlineData("cbuiltins\neval\n(X\x01\0\0\01tR.", "builtins.eval")]
    [InlineData("c__builtin__\nexec\n.", "__builtin__.exec")]
    [InlineData("\u008c\x02os\u008c\x06system\u0093(X\x02\0\0\0lstR.", "os.system")]
    [InlineData("ccollections\nOrderedDict\n(cposix\nsystem\ntR.", "posix.system")]
    [InlineData("ctorch\nload\n)R.", "torch.load")]
    [InlineData("(X\x04\0\0\0echoios\nsystem\n.", "opcode 0x69")]
    [InlineData("(cos\nsystem\no.", "os.system")]
    [InlineData("}(X\x01\0\0\0accollections\nOrderedDict\nu.", "as a value")]
    public void A_pickle_that_would_run_code_is_refused_by_name(string pickle, string named)
    {
        using var folder = new TempFolder();
        string path = Archive(folder, Encoding.Latin1.GetBytes("\u0080\x02" + pickle));

        Opening(path)
            .Should()
            .Throw<CorruptArtifactException>()
            .Which.Message.Should()
            .Contain(named)
            .And.Contain(path);
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("K")]
    [InlineData("N.")]
    [InlineData("X\xff\xff\xff\xff")]
    [InlineData("h\x05.")]
    [InlineData("s.")]
    [InlineData("}K\x01s.")]
    [InlineData("q\0.")]
    [InlineData("(((((t.")]
    [InlineData("R.")]
    [InlineData("\u008a\xff.")]
    [InlineData("}(NNb.")]
    public void A_damaged_pickle_is_refused(string pickle)
    {
        using var folder = new TempFolder();
        string path = Archive(folder, Encoding.Latin1.GetBytes(pickle));

        Opening(path).Should().Throw<CorruptArtifactException>().Which.Message.Should().Contain(path);
    }

    [Theory]
    [InlineData(0, new long[] { 4 }, new long[] { 1 }, true)]
    [InlineData(1, new long[] { 4 }, new long[] { 1 }, false)]
    [InlineData(0, new long[] { 1_000_000_000 }, new long[] { 0 }, false)]
    [InlineData(0, new long[] { 2, 2 }, new long[] { 1, 2 }, true)]
    [InlineData(0, new long[] { long.MaxValue, 3 }, new long[] { 1, 1 }, false)]
    [InlineData(0, new long[] { 2, 2 }, new long[] { 3, 1 }, false)]
    public void A_view_must_lie_within_its_storage(long offset, long[] shape, long[] strides, bool opens)
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        string path = Archive(folder, TensorPickle(offset, shape, strides), ("data/0", new byte[16]));

        if (opens)
        {
            using var file = StateDictFile.Open(path);
            file.Load("a").shape.Should().Equal(shape);
        }
        else
        {
            Opening(path).Should().Throw<CorruptArtifactException>().Which.Message.Should().Contain("storage of 4");
        }
    }

    [Fact]
    public void A_transposed_view_is_read_through_its_strides()
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        byte[] data = new byte[16];
        for (int i = 0; i < 4; i++)
        {
            BitConverter.TryWriteBytes(data.AsSpan(4 * i), i + 1f);
        }
        string path = Archive(folder, TensorPickle(0, [2, 2], [1, 2]), ("data/0", data));

        using var file = StateDictFile.Open(path);

        file.Load("a").contiguous().data<float>().ToArray().Should().Equal(1, 3, 2, 4);
    }

    [Fact]
    public void A_storage_of_another_length_or_absent_is_refused()
    {
        using var folder = new TempFolder();
        byte[] pickle = TensorPickle(0, [4], [1]);

        Opening(Archive(folder, pickle, ("data/0", new byte[12]))).Should().Throw<CorruptArtifactException>();
        Opening(Archive(folder, pickle)).Should().Throw<CorruptArtifactException>();
        Opening(Archive(folder, pickle, ("../data/0", new byte[16]))).Should().Throw<CorruptArtifactException>();
    }

    [Fact]
    public void A_compressed_storage_is_refused()
    {
        using var folder = new TempFolder();
        string path = folder.File("bomb.pt");
        using (var archive = ZipFile.Open(path, ZipArchiveMode.Create))
        {
            Add(archive, "x/data.pkl", TensorPickle(0, [4], [1]), CompressionLevel.NoCompression);
            Add(archive, "x/data/0", new byte[16], CompressionLevel.SmallestSize);
        }

        Opening(path).Should().Throw<CorruptArtifactException>().Which.Message.Should().Contain("compressed");
    }

    [Fact]
    public void An_altered_byte_of_a_tensor_is_found_when_it_loads()
    {
        using var folder = new TempFolder();
        string path = Save(folder, [("a", arange(64).to(ScalarType.Float32))]);
        byte[] bytes = File.ReadAllBytes(path);
        byte[] needle = [.. BitConverter.GetBytes(41f), .. BitConverter.GetBytes(42f)];
        bytes[bytes.AsSpan().IndexOf(needle)] ^= 1;
        path = folder.File("altered.pt");
        WriteBytes(path, bytes);

        using var file = StateDictFile.Open(path);

        ((Action)(() => file.Load("a")))
            .Should()
            .Throw<CorruptArtifactException>()
            .Which.Message.Should()
            .Contain("CRC");
    }

    [Fact]
    public void Every_truncation_is_refused()
    {
        using var folder = new TempFolder();
        using var value = arange(6);
        byte[] bytes = File.ReadAllBytes(Save(folder, [("a", value)]));
        string path = folder.File("cut.pt");
        for (int length = 0; length < bytes.Length; length++)
        {
            WriteBytes(path, bytes[..length]);
            Opening(path).Should().Throw<CorruptArtifactException>();
        }
    }

    [Fact]
    public void A_missing_file_is_a_configuration_error() =>
        Opening("no/such.pt").Should().Throw<ConfigurationException>().Which.Message.Should().Contain("no/such.pt");

    private static Action Opening(string path) => () => StateDictFile.Open(path).Dispose();

    private static string Save(TempFolder folder, List<(string, object)> values)
    {
        string path = folder.File($"{Guid.NewGuid():N}.pt");
        using var stream = File.Create(path);
        StateDictWriter.Write(stream, "archive", values);
        return path;
    }

    /// <summary>{"a": a float32 tensor viewing data/0 of 4 elements}</summary>
    private static byte[] TensorPickle(long offset, long[] shape, long[] strides)
    {
        string pickle =
            "}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
            + "0X\x03\0\0\0cpuK\x04tQ"
            + Number(offset)
            + "("
            + string.Concat(shape.Select(Number))
            + "t("
            + string.Concat(strides.Select(Number))
            + "t\u0089ccollections\nOrderedDict\n)RtRu.";
        return Encoding.Latin1.GetBytes(pickle);
    }

    private static string Number(long value) => "\u008a\x08" + Encoding.Latin1.GetString(BitConverter.GetBytes(value));

    private static string Archive(TempFolder folder, byte[] pickle, params (string Name, byte[] Content)[] files)
    {
        string path = folder.File($"{Guid.NewGuid():N}.pt");
        using var archive = ZipFile.Open(path, ZipArchiveMode.Create);
        Add(archive, "x/data.pkl", pickle, CompressionLevel.NoCompression);
        foreach (var (name, content) in files)
        {
            Add(archive, $"x/{name}", content, CompressionLevel.NoCompression);
        }
        return path;
    }

    private static void Add(ZipArchive archive, string name, byte[] content, CompressionLevel level)
    {
        using var stream = archive.CreateEntry(name, level).Open();
        stream.Write(content);
    }

    private static void WriteBytes(string path, byte[] bytes)
    {
        using var stream = File.Create(path);
        stream.Write(bytes);
    }
}
