namespace Pipeline.Tests.Pipelines;

/// <summary>Each wrong input ends the command with its exit code and a message that names where, what and the remedy.</summary>
public sealed class WrongInputTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    [Fact]
    public void A_missing_model_folder() =>
        Refused(2, ["model=/no/such/model"], "/no/such/model", "no file or folder", "Check the path");

    [Fact]
    public void An_unknown_key() => Refused(2, ["train.bacth=64"], "train.bacth", "batch");

    [Fact]
    public void A_hook_beyond_the_last_layer() =>
        Refused(2, ["harvest.hooks=[blocks.2.hook_resid_post]"], "harvest.hooks[0]", "0 to 1");

    [Fact]
    public void A_k_larger_than_the_dictionary() => Refused(2, ["train.saes.0.k=65"], "train.saes[0]", "64");

    [Fact]
    public void A_context_longer_than_the_models() =>
        Refused(2, ["harvest.context=33"], "harvest.context", "at most 32");

    [Fact]
    public void A_text_that_is_not_there() => Refused(2, ["text=/no/text"], "text", "/no/text");

    [Fact]
    public void A_missing_required_key() => RefusedFile(2, "name: x\n", "harvest", "train", "model");

    [Fact]
    public void A_pipeline_file_that_is_not_there()
    {
        var result = SaeProcess.Run("run", "/no/such.yaml");
        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain("/no/such.yaml");
    }

    [Fact]
    public void An_unknown_verb()
    {
        var result = SaeProcess.Run("rum");
        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain("rum");
    }

    [Fact]
    public void An_empty_text()
    {
        using var folder = new TempFolder();
        Refused(2, ["text=" + folder.Write("empty.jsonl", "")], "empty.jsonl", "no document to harvest");
    }

    [Fact]
    public void Truncated_weights()
    {
        using var folder = new TempFolder();
        foreach (string file in Directory.EnumerateFiles(tiny.Model))
        {
            File.Copy(file, folder.File(Path.GetFileName(file)));
        }
        string weights = folder.File("model.safetensors");
        using (var stream = new FileStream(weights, FileMode.Open))
        {
            stream.SetLength(stream.Length - 100);
        }
        Refused(3, ["model=" + folder.Path], weights, "truncated");
    }

    [Fact]
    public void A_folder_that_another_run_holds()
    {
        using var folder = new TempFolder();
        using var held = Shared.Artifacts.RunLock.Acquire(folder.Path);
        var result = SaeProcess.Run("run", tiny.Pipeline, "--out", folder.Path);
        result.ExitCode.Should().Be(4);
        result.Error.Should().Contain($"process {Environment.ProcessId} on {Environment.MachineName}");
    }

    private void Refused(int exitCode, string[] settings, params string[] named)
    {
        using var folder = new TempFolder();
        var result = SaeProcess.Run([
            "run",
            tiny.Pipeline,
            "--out",
            folder.File("run"),
            .. settings.SelectMany(setting => new[] { "--set", setting }),
        ]);
        Check(result, exitCode, named);
    }

    private static void RefusedFile(int exitCode, string yaml, params string[] named)
    {
        using var folder = new TempFolder();
        Check(SaeProcess.Run("run", folder.Write("p.yaml", yaml)), exitCode, named);
    }

    private static void Check(SaeProcess.Result result, int exitCode, string[] named)
    {
        result.ExitCode.Should().Be(exitCode, result.Error);
        result.Error.Should().ContainAll(named).And.Contain("found").And.Contain("expected");
        result.Error.Should().NotContain("   at ", "a stack trace comes only with --verbose");
    }
}
