using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public sealed class ManifestTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void A_manifest_reads_back_as_it_was_written()
    {
        var written = Publish();

        var read = Manifest.TryRead(folder.Path);

        Canonical(read!).Should().Be(Canonical(written));
        read!.Outputs[0].Shape!.Keys.Should().Equal("row", "d_model");
        Manifest.TryRead(folder["absent"]).Should().BeNull();
        File.ReadAllText(folder[Manifest.FileName]).Should().Contain("\"schema\": 1").And.Contain("\"self_sha256\"");
    }

    [Fact]
    public void Paths_and_provenance_stand_outside_the_fingerprint()
    {
        var first = Manifest.Create("s", [], [new("text", "/here", "f")], [], provenance: new() { ["device"] = "cpu" });
        var second = Manifest.Create("s", [], [new("text", "/there", "f")], [], provenance: []);

        first.Fingerprint.Should().Be(second.Fingerprint);
    }

    [Fact]
    public void Every_flipped_bit_is_noticed_or_changes_nothing()
    {
        string expected = Canonical(Publish());
        string path = folder[Manifest.FileName];
        byte[] bytes = File.ReadAllBytes(path);
        var harmless = new List<int>();
        for (int i = 0; i < bytes.Length; i++)
        {
            foreach (byte flip in (byte[])[0x01, 0x20, 0x80])
            {
                bytes[i] ^= flip;
                TempFolder.Overwrite(path, bytes);
                bytes[i] ^= flip;
                try
                {
                    Canonical(Manifest.TryRead(folder.Path)!).Should().Be(expected, $"byte {i} differs");
                    harmless.Add(i);
                }
                catch (CorruptArtifactException e)
                {
                    e.Message.Should().Contain(path);
                }
            }
        }
        harmless.Count.Should().BeLessThan(bytes.Length / 20);
    }

    [Fact]
    public void Every_truncation_is_noticed()
    {
        Publish();
        string path = folder[Manifest.FileName];
        byte[] bytes = File.ReadAllBytes(path);
        for (int length = 0; length < bytes.Length - 1; length++) // the last byte is a line end
        {
            TempFolder.Overwrite(path, bytes.AsSpan(0, length));
            var read = () => Manifest.TryRead(folder.Path);
            read.Should().Throw<CorruptArtifactException>($"{length} bytes are left");
        }
    }

    [Theory]
    [InlineData("""{"schema":1}""")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("{\"a\":1,\"a\":2}")]
    public void Json_that_is_no_manifest_is_refused(string text)
    {
        File.AppendAllText(folder[Manifest.FileName], text);

        var read = () => Manifest.TryRead(folder.Path);

        read.Should().Throw<CorruptArtifactException>();
    }

    [Theory]
    [InlineData("""{"schema":2,"stage":"s"}""", "schema 2")]
    [InlineData("""{"schema":1,"stage":"s"}""", "manifest")]
    [InlineData("""{"schema":1,"stage":null,"surprise":1}""", "manifest")]
    public void A_sealed_file_of_another_form_is_refused(string text, string named)
    {
        var json = JsonNode.Parse(text)!.AsObject();
        json["self_sha256"] = CanonicalJson.Sha256(json);
        File.AppendAllText(folder[Manifest.FileName], json.ToJsonString());

        var read = () => Manifest.TryRead(folder.Path);

        read.Should().Throw<CorruptArtifactException>().WithMessage($"*{named}*");
    }

    [Fact]
    public void Verify_names_every_missing_and_altered_file()
    {
        var manifest = Publish();
        manifest.Verify(folder.Path, rehash: true).Should().BeEmpty();

        TempFolder.Overwrite(folder["hook", "b.bin"], [9, 9, 9]);
        File.AppendAllText(folder["hook", "c.bin"], "more");
        File.Delete(folder["hook", "d.bin"]);

        manifest
            .Verify(folder.Path, rehash: true)
            .Select(fault => Path.GetFileName(fault.Where))
            .Should()
            .Equal("b.bin", "c.bin", "d.bin");
        manifest
            .Verify(folder.Path, rehash: false)
            .Select(fault => Path.GetFileName(fault.Where))
            .Should()
            .Equal("c.bin", "d.bin");
    }

    [Theory]
    [InlineData("../outside")]
    [InlineData("a/../../outside")]
    [InlineData("/etc/passwd")]
    [InlineData("C:/x")]
    [InlineData("a\\b")]
    [InlineData("./a")]
    [InlineData("")]
    public void Names_that_leave_the_folder_are_faults_and_never_written(string name)
    {
        var manifest = Publish() with { Outputs = [new ManifestOutput(name, 1, "00")] };

        manifest
            .Verify(folder.Path, rehash: true)
            .Should()
            .ContainSingle()
            .Which.Found.Should()
            .Be($"the name '{name}'");
        ((Action)(() => Manifest.Write(folder.Path, manifest))).Should().Throw<ArgumentException>();
    }

    private Manifest Publish()
    {
        var outputs = new List<ManifestOutput>();
        foreach (string name in (string[])["hook/a.bin", "hook/b.bin", "hook/c.bin", "hook/d.bin"])
        {
            var digest = AtomicFile.Write(folder[name.Split('/')], stream => stream.Write([1, 2, (byte)name[5]]));
            outputs.Add(ManifestOutput.Of(name, digest));
        }
        outputs[0] = outputs[0] with
        {
            Rows = 3,
            Dtype = "float16",
            Shape = new Dictionary<string, long> { ["row"] = 3, ["d_model"] = 1 },
        };
        var manifest = Manifest.Create(
            "harvest",
            new()
            {
                ["tokens"] = 200000,
                ["dtype"] = "float16",
                ["name"] = "Füße \"x\"",
            },
            [new ManifestInput("model", "data/model", "ab12")],
            outputs,
            new() { ["tokens"] = 3, ["rate"] = 0.25 },
            new() { ["device"] = "cpu" }
        );
        Manifest.Write(folder.Path, manifest);
        return manifest;
    }

    private static string Canonical(Manifest manifest) =>
        Convert.ToHexString(CanonicalJson.Bytes(JsonSerializer.SerializeToNode(manifest)));
}
