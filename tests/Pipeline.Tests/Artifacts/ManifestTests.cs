using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public class ManifestTests
{
    private static readonly JsonObject Config = new() { ["a"] = 1, ["b"] = new JsonArray(1, 2) };

    [Fact]
    public void A_fingerprint_does_not_depend_on_the_order_of_keys()
    {
        var left = JsonNode.Parse("""{"a": 1, "b": {"c": [1, 2], "d": null}}""");
        var right = JsonNode.Parse("""{"b": {"d": null, "c": [1, 2]}, "a": 1}""");

        Fingerprint.Of(left).Should().Be(Fingerprint.Of(right));
    }

    [Theory]
    [InlineData("""{"a": 2, "b": [1, 2]}""", "a", "1", "2")]
    [InlineData("""{"a": 1, "b": [1, 3]}""", "b[1]", "2", "3")]
    [InlineData("""{"a": 1, "b": [1, 2], "c": "x"}""", "c", "null", "\"x\"")]
    public void The_first_difference_is_named_with_both_values(string other, string path, string left, string right)
    {
        var changed = JsonNode.Parse(other);

        Fingerprint.Of(changed).Should().NotBe(Fingerprint.Of(Config));
        Fingerprint.FirstDifference(Config, changed).Should().Be((path, left, right));
    }

    [Fact]
    public void A_folder_is_up_to_date_only_for_the_same_config_and_inputs()
    {
        using var folder = new TempFolder();
        Complete(folder.Path);

        Open(folder.Path, Config, "h1").State.Should().Be(StageState.UpToDate);
        var stale = Open(folder.Path, Config, "h2");
        stale.State.Should().Be(StageState.Stale);
        stale.Reason.Should().Contain("inputs.text").And.Contain("h1").And.Contain("h2");
        Open(folder.Path, new JsonObject { ["a"] = 2 }, "h1").State.Should().Be(StageState.Stale);
        Open(folder.File("none"), Config, "h1").State.Should().Be(StageState.Absent);
    }

    [Fact]
    public void Verify_names_missing_and_altered_files()
    {
        using var folder = new TempFolder();
        var manifest = Complete(folder.Path);

        manifest.Verify(folder.Path, rehash: true).Should().BeEmpty();
        folder.Write("out.bin", "xyy"); // same length
        manifest.Verify(folder.Path, rehash: false).Should().BeEmpty();
        manifest.Verify(folder.Path, rehash: true).Single().ToString().Should().Contain("out.bin");
        File.Delete(folder.File("out.bin"));
        manifest
            .Verify(folder.Path, rehash: false)
            .Single()
            .ToString()
            .Should()
            .Contain("out.bin")
            .And.Contain("no file");
        Open(folder.Path, Config, "h1").State.Should().Be(StageState.Damaged);
    }

    [Fact]
    public void Any_flipped_byte_of_a_manifest_is_noticed_or_harmless()
    {
        using var folder = new TempFolder();
        Complete(folder.Path);
        string path = folder.File(Manifest.FileName);
        byte[] good = File.ReadAllBytes(path);
        string fingerprint = Manifest.TryRead(folder.Path)!.Fingerprint;
        for (int i = 0; i < good.Length; i++)
        {
            byte[] bad = [.. good];
            bad[i] ^= 1;
            using (var stream = File.Create(path))
            {
                stream.Write(bad);
            }
            try
            {
                // White space may change without a change of content.
                Manifest.TryRead(folder.Path)!.Fingerprint.Should().Be(fingerprint);
            }
            catch (CorruptArtifactException e)
            {
                e.Message.Should().Contain(Manifest.FileName);
            }
        }
    }

    [Fact]
    public void A_second_holder_is_refused_by_process_and_host()
    {
        using var folder = new TempFolder();
        using (RunLock.Acquire(folder.Path))
        {
            ((Action)(() => RunLock.Acquire(folder.Path)))
                .Should()
                .Throw<FolderLockedException>()
                .Which.Message.Should()
                .Contain($"PID {Environment.ProcessId} on {Environment.MachineName}");
        }
        using var again = RunLock.Acquire(folder.Path);
    }

    private static StageFolder Open(string path, JsonObject config, string textHash) =>
        new(path, "stage", (JsonObject)config.DeepClone(), [new ManifestInput("text", "/some/where", textHash)]);

    private static Manifest Complete(string path)
    {
        var stage = Open(path, Config, "h1");
        stage.Begin();
        var digest = AtomicFile.WriteText(Path.Combine(path, "out.bin"), "xyz");
        stage.Complete([new ManifestOutput("out.bin", digest.Bytes, digest.Sha256)], [], []);
        return Manifest.TryRead(path)!;
    }
}
