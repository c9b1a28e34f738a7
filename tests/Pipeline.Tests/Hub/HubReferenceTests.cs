using Pipeline.Shared;
using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

public sealed class HubReferenceTests
{
    [Theory]
    [InlineData("hf://org/name", false, "org/name", "main", null)]
    [InlineData("hf://openai-community/gpt2/", false, "openai-community/gpt2", "main", null)]
    [InlineData("hf://org/name@v1.0/config.json", false, "org/name", "v1.0", "config.json")]
    [InlineData("hf://datasets/org/name@dev/a/*.parquet", true, "org/name", "dev", "a/*.parquet")]
    [InlineData("hf://org/name@refs/pr/7/a/b", false, "org/name", "refs/pr/7", "a/b")]
    [InlineData("hf://datasets/org/name@refs%2Fconvert%2Fparquet/a", true, "org/name", "refs/convert/parquet", "a")]
    [InlineData("hf://org/name/an@sign", false, "org/name", "main", "an@sign")]
    public void A_name_is_taken_apart(string text, bool isDataset, string id, string revision, string? path)
    {
        var reference = HubReference.Parse(text);

        (reference.IsDataset, reference.Id, reference.Revision, reference.Path)
            .Should()
            .Be((isDataset, id, revision, path));
        HubReference.Parse(reference.ToString()).Should().Be(reference);
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("https://huggingface.co/org/name")]
    [InlineData("hf://")]
    [InlineData("hf://gpt2")]
    [InlineData("hf://datasets/name")]
    [InlineData("hf://spaces/org/name")]
    [InlineData("hf://../name")]
    [InlineData("hf://org/..")]
    [InlineData("hf://org/na--me")]
    [InlineData("hf://org/na me")]
    [InlineData("hf://org/name@")]
    [InlineData("hf://org/name@../x")]
    [InlineData("hf://org/name@..%2F..%2Fx")]
    [InlineData("hf://org/name@%2Fetc/x")]
    [InlineData("hf://org/name@a%00b")]
    [InlineData("hf://org/name/../x")]
    [InlineData("hf://org/name/a/../../x")]
    [InlineData("hf://org/name//etc/passwd")]
    [InlineData("hf://org/name/C:/x")]
    [InlineData(@"hf://org/name/\\host\share")]
    [InlineData("hf://org/name/a/")]
    [InlineData("hf://org/name/a\nb")]
    public void Another_form_or_a_name_that_leaves_its_folder_is_refused(string text)
    {
        var parse = () => HubReference.Parse(text);

        parse
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*found*expected*")
            .Which.Message.Should()
            .NotContain("\n");
    }

    [Theory]
    [InlineData("hf://datasets/o/n", "any/thing.txt", true)]
    [InlineData("hf://o/n", "config.json", true)]
    [InlineData("hf://o/n", "model-00001-of-00002.safetensors", true)]
    [InlineData("hf://o/n", "model.safetensors.index.json", true)]
    [InlineData("hf://o/n", "tokenizer.model", true)]
    [InlineData("hf://o/n", "pytorch_model.bin", false)]
    [InlineData("hf://o/n", "onnx/config.json", false)]
    [InlineData("hf://o/n/a", "a/b/c", true)]
    [InlineData("hf://o/n/a", "ab", false)]
    [InlineData("hf://o/n/*.parquet", "x.parquet", true)]
    [InlineData("hf://o/n/*.parquet", "a/x.parquet", false)]
    [InlineData("hf://o/n/*.parquet", "x.parquet.bak", false)]
    [InlineData("hf://o/n/**/*.parquet", "a/b/x.parquet", true)]
    [InlineData("hf://o/n/**/*.parquet", "x.parquet", true)]
    [InlineData("hf://o/n/a/train-0000?-of-2.x", "a/train-00001-of-2.x", true)]
    [InlineData("hf://o/n/a.c*", "abcd", false)]
    public void A_path_or_glob_asks_for_the_files_it_says(string text, string file, bool isWanted) =>
        HubReference.Parse(text).Matches(file).Should().Be(isWanted);
}
