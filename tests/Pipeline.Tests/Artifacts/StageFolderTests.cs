using System.Text.Json.Nodes;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public class StageFolderTests
{
    private static readonly JsonObject Config = new() { ["a"] = 1, ["b"] = new JsonArray(1, 2) };

    [Fact]
    public void A_folder_is_up_to_date_only_for_the_same_config_and_inputs()
    {
        using var folder = new TempFolder();
        string path = folder["stage"];
        Complete(path);

        Open(path, Config, "h1").State.Should().Be(StageState.UpToDate);
        var stale = Open(path, Config, "h2");
        stale.State.Should().Be(StageState.Stale);
        stale.Reason.Should().Contain("inputs.text").And.Contain("h1").And.Contain("h2");
        var other = Open(path, new JsonObject { ["a"] = 2, ["b"] = new JsonArray(1, 2) }, "h1");
        other.State.Should().Be(StageState.Stale);
        other.Reason.Should().Be("config.a was 1, now 2");
        Open(folder["none"], Config, "h1").State.Should().Be(StageState.Absent);
    }

    [Fact]
    public void Unfinished_work_is_continued_for_the_same_identity_alone()
    {
        using var folder = new TempFolder();
        string path = folder["stage"];
        Open(path, Config, "h1").Begin();
        AtomicFile.WriteText(Path.Combine(path, "part"), "x");

        var same = Open(path, Config, "h1");
        same.State.Should().Be(StageState.Partial);
        same.Begin();
        File.Exists(Path.Combine(path, "part")).Should().BeTrue();
        var other = Open(path, Config, "h2");
        other.State.Should().Be(StageState.Stale);
        other.Begin();
        File.Exists(Path.Combine(path, "part")).Should().BeFalse();
    }

    [Fact]
    public void Of_a_damaged_folder_only_files_as_they_were_written_are_kept()
    {
        using var folder = new TempFolder();
        string path = folder["stage"];
        Complete(path);
        TempFolder.Overwrite(Path.Combine(path, "b"), "BB"u8); // same length, other bytes
        File.Delete(Path.Combine(path, "c"));

        var damaged = Open(path, Config, "h1");
        damaged.State.Should().Be(StageState.Damaged);
        damaged.Begin();

        Directory.GetFiles(path).Select(Path.GetFileName).Should().BeEquivalentTo("a", StageFolder.WorkName);
    }

    [Fact]
    public void Without_its_manifest_nothing_in_a_folder_is_trusted()
    {
        using var folder = new TempFolder();
        string path = folder["stage"];
        Complete(path);
        File.Delete(Path.Combine(path, Manifest.FileName));

        Open(path, Config, "h1").Begin();

        Directory.GetFiles(path).Select(Path.GetFileName).Should().BeEquivalentTo(StageFolder.WorkName);
    }

    private static StageFolder Open(string path, JsonObject config, string textHash) =>
        new(path, "stage", (JsonObject)config.DeepClone(), [new ManifestInput("text", "/some/where", textHash)]);

    private static void Complete(string path)
    {
        var stage = Open(path, Config, "h1");
        stage.Begin();
        ManifestOutput[] outputs =
        [
            .. "abc"
                .Select(c => $"{c}")
                .Select(name => ManifestOutput.Of(name, AtomicFile.WriteText(Path.Combine(path, name), name + name))),
        ];
        stage.Complete(outputs, [], []);
    }
}
