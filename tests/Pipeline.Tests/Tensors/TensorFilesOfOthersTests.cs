using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Tensors;

/// <summary>Every file of tensors that another library wrote and that lies in the shared data.</summary>
public class TensorFilesOfOthersTests
{
    public static TheoryData<string> Files()
    {
        string root = Path.Combine(TestData.Root, "data");
        string[] endings = [".pt", ".bin", ".safetensors"];
        var data = new TheoryData<string>();
        foreach (string under in new[] { "saes", "models" })
        {
            string folder = Path.Combine(root, under);
            if (!Directory.Exists(folder))
            {
                data.Add($"{under} (absent)");
                continue;
            }
            data.AddRange(
                Directory
                    .EnumerateFiles(folder, "*", SearchOption.AllDirectories)
                    .Where(file => endings.Contains(Path.GetExtension(file)))
                    .Where(file => Path.GetExtension(file) != ".bin" || StateDictFile.Is(file))
                    .Select(file => Path.GetRelativePath(root, file))
                    .Order(StringComparer.Ordinal)
                    .ToArray()
            );
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Every_tensor_loads_with_the_shape_the_file_tells(string name)
    {
        string path = TestData.Require("data", name);
        using var scope = NewDisposeScope();
        using ITensorFile file = name.EndsWith(".safetensors", StringComparison.Ordinal)
            ? SafetensorsFile.Open(path)
            : StateDictFile.Open(path);

        file.Shapes.Should().NotBeEmpty();
        foreach (var (tensor, shape) in file.Shapes)
        {
            var value = file.Load(tensor);
            value.shape.Should().Equal(shape, tensor);
            if (value.is_floating_point())
            {
                using var wide = file.LoadFloat32(tensor);
                wide.Equals(value.to(float32)).Should().BeTrue(tensor);
            }
        }
    }
}
