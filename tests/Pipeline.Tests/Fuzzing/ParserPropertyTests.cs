using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tensors.Pickle;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Fuzzing;

/// <summary>For any content: what is written is read again, and any bytes are parsed or refused.</summary>
public sealed class ParserPropertyTests : IDisposable
{
    private static readonly ScalarType[] Types =
    [
        ScalarType.Float32,
        ScalarType.Float64,
        ScalarType.Float16,
        ScalarType.BFloat16,
        ScalarType.Int64,
        ScalarType.Int32,
        ScalarType.Byte,
        ScalarType.Bool,
    ];

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    /// <summary>Up to six tensors of up to four axes, sizes 0 to 5, named by any text.</summary>
    private static Arbitrary<(string Name, long[] Shape, int Type)[]> Tensors =>
        (
            from name in ArbMap.Default.GeneratorFor<NonNull<string>>()
            from shape in Gen.Choose(0, 5).Select(size => (long)size).ListOf().Select(sizes => sizes.Take(4).ToArray())
            from type in Gen.Choose(0, Types.Length - 1)
            select (Sane(name.Get), shape, type)
        )
            .ListOf()
            .Select(list => list.Take(6).DistinctBy(t => t.Item1).ToArray())
            .ToArbitrary();

    [Fact]
    public void Any_tensors_written_as_safetensors_are_read_again() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Tensors,
                specs =>
                {
                    using var scope = NewDisposeScope();
                    var tensors = Make(specs);
                    string path = folder["a.safetensors"];
                    using (var stream = File.Create(path))
                    {
                        SafetensorsWriter.Write(stream, tensors);
                    }
                    using var file = SafetensorsFile.Open(path);
                    return file.Shapes.Count == tensors.Count && tensors.All(t => Same(file, t));
                }
            )
        );

    [Fact]
    public void Any_tensors_written_as_a_state_dict_are_read_again() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Tensors,
                specs =>
                {
                    using var scope = NewDisposeScope();
                    var tensors = Make(specs);
                    string path = folder["a.pt"];
                    using (var stream = File.Create(path))
                    {
                        StateDictWriter.Write(stream, "a", [.. tensors.Select(t => (t.Name, (object)t.Value))]);
                    }
                    using var file = StateDictFile.Open(path);
                    return file.Shapes.Count == tensors.Count && tensors.All(t => Same(file, t));
                }
            )
        );

    [Fact]
    public void Any_bytes_are_a_pickle_or_are_refused() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll<byte[]>(bytes =>
            {
                try
                {
                    PickleReader.Read(bytes);
                }
                catch (PickleRefusedException) { }
                return true;
            })
        );

    [Fact]
    public void Any_text_is_a_pipeline_or_is_refused() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll<NonNull<string>>(text =>
            {
                try
                {
                    YamlConfiguration.Parse<PipelineConfig>(text.Get, "any.yaml");
                }
                catch (ConfigurationException) { }
                return true;
            })
        );

    [Fact]
    public void A_name_that_resolves_stays_in_its_folder() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll<NonNull<string>>(name =>
            {
                string root = Path.GetFullPath(folder.Path) + Path.DirectorySeparatorChar;
                return !ArtifactPath.TryResolve(folder.Path, name.Get, out string? path)
                    || Path.GetFullPath(path).StartsWith(root, StringComparison.Ordinal);
            })
        );

    /// <summary>JSON and pickles hold UTF-8: halves of surrogate pairs cannot be written.</summary>
    private static string Sane(string name) =>
        "t"
        + string.Concat(name.EnumerateRunes().Select(rune => rune.ToString()))
            .Replace("__", "_", StringComparison.Ordinal);

    private static List<(string Name, Tensor Value)> Make((string Name, long[] Shape, int Type)[] specs) =>
        [
            .. specs.Select(spec =>
                (
                    spec.Name,
                    (arange(Math.Max(1, Size(spec.Shape))) % 2)
                        .narrow(0, 0, Size(spec.Shape))
                        .to(Types[spec.Type])
                        .reshape(spec.Shape)
                )
            ),
        ];

    private static long Size(long[] shape) => shape.Aggregate(1L, (product, size) => product * size);

    private static bool Same(ITensorFile file, (string Name, Tensor Value) written)
    {
        var read = file.Load(written.Name);
        return read.dtype == written.Value.dtype
            && read.shape.SequenceEqual(written.Value.shape)
            && (read.numel() == 0 || read.eq(written.Value).all().item<bool>());
    }
}
