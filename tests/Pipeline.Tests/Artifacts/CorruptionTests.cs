using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Tests.Activations;

namespace Pipeline.Tests.Artifacts;

/// <summary>No altered byte of an artifact is ever parsed: every damage is a typed error that names the file.</summary>
public sealed class CorruptionTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    private delegate void Reader();

    [Fact]
    public void Every_flipped_byte_of_a_64_KB_shard_is_found_before_it_is_parsed()
    {
        string harvest = Harvest(rows: 1900, width: 12);
        string shard = Path.Combine(harvest, "blocks.1.hook_resid_post", "shard-00000.arrow");
        byte[] bytes = File.ReadAllBytes(shard);
        bytes.Length.Should().BeInRange(64 << 10, 160 << 10);

        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] ^= (byte)(1 << (i % 8));
            TempFolder.Overwrite(shard, bytes);
            bytes[i] ^= (byte)(1 << (i % 8));
            Refused(() => ActivationDataset.OpenHarvest(harvest, "blocks.1.hook_resid_post").Dispose(), shard);
        }
    }

    [Fact]
    public void Every_truncation_of_a_shard_is_found()
    {
        string harvest = Harvest(rows: 1900, width: 12);
        string shard = Path.Combine(harvest, "blocks.1.hook_resid_post", "shard-00000.arrow");
        using (var file = File.OpenWrite(shard))
        {
            for (long length = file.Length - 1; length >= 0; length--)
            {
                file.SetLength(length);
                file.Flush();
                Refused(() => ActivationDataset.OpenHarvest(harvest, "blocks.1.hook_resid_post").Dispose(), shard);
            }
        }
    }

    [Fact]
    public void Ten_thousand_random_flips_of_weights_and_of_a_checkpoint_are_found()
    {
        const int Flips = 10_000;
        var random = new Xoshiro256(1);
        byte[] content = new byte[200_000];
        for (int i = 0; i < content.Length; i++)
        {
            content[i] = (byte)random.NextInt(256);
        }
        string stage = folder["train"];
        var digest = AtomicFile.Write(Path.Combine(stage, "sae_weights.safetensors"), s => s.Write(content));
        Manifest.Write(stage, Manifest.Create("train", [], [], [ManifestOutput.Of("sae_weights.safetensors", digest)]));
        var checkpoints = new CheckpointFolder(folder["checkpoints"]);
        checkpoints.Save(7, s => s.Write(content), []);

        FlipAtRandom(Path.Combine(stage, "sae_weights.safetensors"), () => Manifest.RequireWhole(stage), Flips, random);
        string checkpoint = checkpoints.Open()!.Path;
        FlipAtRandom(checkpoint, () => checkpoints.Open(), Flips, random);
    }

    [Theory]
    [InlineData("manifest.json")]
    [InlineData("checkpoint.json")]
    public void Every_flipped_bit_and_every_truncation_of_what_names_the_hashes_is_found(string name)
    {
        string stage = folder["stage"];
        Manifest.Write(stage, Manifest.Create("train", new JsonObject { ["k"] = 3, ["é"] = "ü" }, [], []));
        var checkpoints = new CheckpointFolder(stage);
        checkpoints.Save(7, s => s.WriteByte(1), new JsonObject { ["metrics"] = new FileDigest(1, "ab").ToJson() });
        string path = Path.Combine(stage, name);
        byte[] bytes = File.ReadAllBytes(path);
        string before = Read();

        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            TempFolder.Overwrite(path, bytes);
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                Read().Should().Be(before, "white space may change and nothing else");
            }
            catch (CorruptArtifactException e)
            {
                e.Message.Should().Contain(path);
            }
        }
        for (int length = 0; length < bytes.Length - 1; length++) // the last byte is a line end
        {
            TempFolder.Overwrite(path, bytes.AsSpan(0, length));
            Refused(() => Read(), path);
        }

        string Read() =>
            name == "manifest.json" ? Manifest.TryRead(stage)!.Config.ToJsonString()
            : checkpoints.Open()! is var c ? $"{c.Step} {c.Path} {c.Words.ToJsonString()}"
            : "";
    }

    [Fact]
    public void A_checkpoint_whose_file_is_gone_or_cut_is_found()
    {
        var checkpoints = new CheckpointFolder(folder["c"]);
        checkpoints.Open().Should().BeNull();
        checkpoints.Save(3, s => s.Write("abc"u8), []);
        string path = checkpoints.Open()!.Path;
        TempFolder.Overwrite(path, "ab"u8);
        Refused(() => checkpoints.Open(), path);
        File.Delete(path);
        Refused(() => checkpoints.Open(), path);
    }

    [Fact]
    public void Metrics_are_cut_back_to_what_the_checkpoint_knew_and_refused_when_altered()
    {
        string path = folder["metrics.jsonl"];
        var log = new MetricsLog(path);
        log.Add(new JsonObject { ["step"] = 1 });
        log.Add(new JsonObject { ["step"] = 2 });
        var known = log.Write();
        log.Add(new JsonObject { ["step"] = 3 });
        log.Write();

        var restored = new MetricsLog(path);
        restored.Restore(known);
        restored.Last!["step"]!.GetValue<int>().Should().Be(2);
        restored.Write().Should().Be(known);

        TempFolder.Overwrite(path, "{\"step\":9}\n{\"step\":2}\n"u8);
        Refused(() => new MetricsLog(path).Restore(known), path);
        TempFolder.Overwrite(path, "{\"step\":1}\n"u8);
        Refused(() => new MetricsLog(path).Restore(known), path);
    }

    private static void FlipAtRandom(string path, Reader read, int flips, Xoshiro256 random)
    {
        byte[] bytes = File.ReadAllBytes(path);
        for (int i = 0; i < flips; i++)
        {
            int at = random.NextInt(bytes.Length);
            byte flip = (byte)(1 + random.NextInt(255));
            bytes[at] ^= flip;
            TempFolder.Overwrite(path, bytes);
            bytes[at] ^= flip;
            Refused(read, path);
        }
    }

    private static void Refused(Reader read, string path)
    {
        try
        {
            read();
        }
        catch (CorruptArtifactException e)
        {
            if (!e.Message.Contains(path, StringComparison.Ordinal))
            {
                Assert.Fail($"'{e.Message}' does not name {path}");
            }
            return;
        }
        Assert.Fail($"damage to {path} went unnoticed");
    }

    private string Harvest(int rows, int width)
    {
        string harvest = folder["harvest"];
        string name = "blocks.1.hook_resid_post/shard-00000.arrow";
        var digest = Shards.Write(
            Path.Combine(harvest, name),
            ActivationDtype.Float16,
            Shards.Metadata(width),
            Shards.Values(rows, width)
        );
        Manifest.Write(harvest, Manifest.Create("harvest", [], [], [ManifestOutput.Of(name, digest)]));
        return harvest;
    }
}
