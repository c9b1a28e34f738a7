using Pipeline.Shared.Activations;
using Pipeline.Shared.Tensors;

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

    /// <summary>The embedding of a token that comes late is 100,000 in one direction. Shards before it are kept.</summary>
    [Fact]
    public void An_activation_beyond_the_stored_type()
    {
        using var folder = new TempFolder();
        var lines = File.ReadLines(tiny.Text).ToList();
        // Several, since some documents are held out.
        lines.InsertRange(
            25,
            Enumerable.Range(0, 5).Select(i => $$"""{"id": "z{{i}}", "title": "Z{{i}}", "text": "Zzz."}""")
        );
        string text = folder.Write("text.jsonl", string.Join('\n', lines));
        string[] harvest = ["run", tiny.Pipeline, "--only", "harvest", "--set", "text=" + text, "--out"];
        SaeProcess.Run([.. harvest, folder["plain"]]).ExitCode.Should().Be(0);
        var tokens = HarvestedTokens(folder["plain"]);
        int token = tokens.Distinct().MaxBy(tokens.IndexOf);
        int row = tokens.IndexOf(token);
        row.Should().BeGreaterThan(512, "a shard has so many rows");
        string model = CopyWithEmbedding(folder["model"], token, 5, 1e5f);

        var result = SaeProcess.Run([.. harvest, folder["run"], "--set", "model=" + model]);

        Check(result, 1, [$"blocks.0.hook_resid_post: row {row}, value 5", "at most 65504", "dtype: float32"]);
        File.Exists(folder["run", "harvest", "blocks.1.hook_resid_post", "shard-00000.arrow"]).Should().BeTrue();
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

    private static List<int> HarvestedTokens(string run)
    {
        var tokens = new List<int>();
        string folder = Path.Combine(run, "harvest", "blocks.0.hook_resid_post");
        foreach (string path in Directory.EnumerateFiles(folder, "*.arrow").Order(StringComparer.Ordinal))
        {
            using var shard = ActivationShard.Open(path);
            tokens.AddRange(shard.Tokens);
        }
        return tokens;
    }

    private string CopyWithEmbedding(string folder, int token, int dimension, float value)
    {
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.EnumerateFiles(tiny.Model))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }
        using var scope = TorchSharp.torch.NewDisposeScope();
        using var weights = SafetensorsFile.Open(Path.Combine(tiny.Model, "model.safetensors"));
        // In float32, since float16, as the file has it, does not reach so far either.
        var tensors = weights.Entries.Keys.Select(name => (Name: name, Value: weights.LoadFloat32(name))).ToList();
        var embedding = tensors.Single(entry => entry.Name.Contains("embed_tokens", StringComparison.Ordinal));
        embedding.Value[token, dimension] = value;
        using var stream = File.Create(Path.Combine(folder, "model.safetensors"));
        SafetensorsWriter.Write(stream, tensors);
        return folder;
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
