using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Hub;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Shared;

/// <summary>A pipeline's model, tokenizer, text and hooks, opened and checked against each other before any stage runs.</summary>
public sealed class RunInputs
{
    private RunInputs(
        PipelineConfig config,
        string where,
        string folder,
        Device device,
        bool allowDrift,
        string modelPath,
        ITextSource text
    )
    {
        (Config, Folder, Device, AllowDrift) = (config, folder, device, allowDrift);
        Environment = ComputeEnvironment.Of(device);
        Model = ModelFolder.Open(modelPath);
        Tokenizer = Tokenizers.Load(modelPath);
        Text = text;
        Hooks =
        [
            .. config.Harvest.Hooks.Select(
                (hook, i) => HookPoint.Parse(hook, Model.Config.Layers, $"{where}: harvest.hooks[{i}]")
            ),
        ];
        Saes =
        [
            .. Hooks.SelectMany(hook =>
                config
                    .Train.Saes.Select((sae, i) => (Sae: sae, Hooks: HooksOf(sae, $"{where}: train.saes[{i}].hooks")))
                    .Where(entry => entry.Hooks.Contains(hook))
                    .Select(entry => (hook, entry.Sae))
            ),
        ];
        Bos = config.Harvest.Bos ?? (Tokenizer.BosId is null ? BosPolicy.None : BosPolicy.EachDocument);
        Packer = new TokenPacker(Tokenizer, config.Harvest.Context, Bos, config.Harvest.Separator, $"{where}: harvest");
        var faults = new FaultList(where);
        faults.AddRange(Check(where));
        faults.ThrowIfAny();
        ModelInput = new ManifestInput("model", config.Model, Model.Hash());
        TokenizerInput = new ManifestInput("tokenizer", config.Model, Tokenizer.Hash);
        TextInput = new ManifestInput("text", config.Text, Inputs.HashOf(Text.Files));
    }

    public PipelineConfig Config { get; }

    /// <summary>The run's folder.</summary>
    public string Folder { get; }
    public Device Device { get; }

    /// <summary>Where this process computes.</summary>
    public ComputeEnvironment Environment { get; }

    /// <summary>Whether unfinished work of another environment may be continued.</summary>
    public bool AllowDrift { get; }
    public ModelFolder Model { get; }
    public ITokenizer Tokenizer { get; }
    public ITextSource Text { get; }
    public TokenPacker Packer { get; }

    /// <summary>As set, or before each document where the tokenizer has a BOS.</summary>
    public BosPolicy Bos { get; }

    /// <summary>Resolved against the model's depth, in the order of the file.</summary>
    public IReadOnlyList<HookPoint> Hooks { get; }

    /// <summary>Every SAE at every hook it is trained at, hook by hook.</summary>
    public IReadOnlyList<(HookPoint Hook, SaeConfig Sae)> Saes { get; }
    public ManifestInput ModelInput { get; }
    public ManifestInput TokenizerInput { get; }
    public ManifestInput TextInput { get; }

    /// <param name="config">The pipeline.</param>
    /// <param name="where">Its file, for messages.</param>
    /// <param name="folder">The run's folder.</param>
    /// <param name="device">Where tensors live.</param>
    /// <param name="allowDrift">Whether unfinished work of another environment may be continued.</param>
    /// <param name="progress">Told of what is fetched from the hub for an <c>hf://</c> name; null where nobody watches.</param>
    /// <param name="cancel">Stops fetching; what arrived is kept.</param>
    /// <exception cref="ConfigurationException">Settings that do not fit the model, the tokenizer or the text.</exception>
    /// <exception cref="PipelineException">As <see cref="HubFolder.Resolve"/>.</exception>
    public static RunInputs Open(
        PipelineConfig config,
        string where,
        string folder,
        Device device,
        bool allowDrift = false,
        IProgressSink? progress = null,
        CancellationToken cancel = default
    )
    {
        ArgumentNullException.ThrowIfNull(config);
        progress ??= new NoProgress();
        string model = HubFolder.Resolve(config.Model, progress, cancel);
        var text = TextSources.Fetch(config.Text, $"{where}: text", progress, cancel);
        return new(config, where, folder, device, allowDrift, model, text);
    }

    /// <summary>Where an SAE's reconstruction belongs: the hook itself, or a transcoder's MLP output.</summary>
    public static HookPoint TargetOf(HookPoint hook, SaeConfig sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        return sae.Transcoder ? hook with { Site = HookSite.MlpOut } : hook;
    }

    public string HarvestFolder => Path.Combine(Folder, "harvest");

    public string HookFolder(HookPoint hook) => Path.Combine(HarvestFolder, hook.ToString());

    public string SaeFolder(HookPoint hook, SaeConfig sae) =>
        Path.Combine(Folder, "train", hook.ToString(), sae.Identifier(Model.Config.Width));

    public string EvaluationFolder(HookPoint hook, SaeConfig sae) =>
        Path.Combine(Folder, "evaluate", hook.ToString(), sae.Identifier(Model.Config.Width));

    public string ScalingFolder(HookPoint hook) => Path.Combine(Folder, "scaling", hook.ToString());

    /// <summary>Documents with their index in the source: held-out ones, or all others.</summary>
    public IEnumerable<(int Index, Document Document)> Documents(bool heldOut) =>
        Text.Read()
            .Select((document, index) => (index, document))
            .Where(entry => DocumentSplit.IsHeldOut(entry.document, Config.Harvest.HeldOut) == heldOut);

    /// <summary>Contexts of at most <paramref name="tokens"/> tokens in all (at least one), grouped for forward passes.</summary>
    public IEnumerable<PackedContext[]> Batches(bool heldOut, long tokens, int batch)
    {
        long packed = 0;
        return Packer
            .Pack(Documents(heldOut))
            .TakeWhile(context =>
            {
                bool first = packed == 0;
                packed += context.Tokens.Length;
                return first || packed <= tokens;
            })
            .Chunk(batch);
    }

    /// <summary>What ran where; stands outside every fingerprint.</summary>
    public JsonObject Provenance(TimeSpan wall) =>
        new()
        {
            ["device"] = Device.ToString(),
            ["threads"] = get_num_threads(),
            ["versions"] = new JsonObject
            {
                ["pipeline"] = typeof(RunInputs).Assembly.GetName().Version?.ToString(3),
                ["torchsharp"] = typeof(TorchSharp.torch).Assembly.GetName().Version?.ToString(3),
                ["dotnet"] = System.Environment.Version.ToString(),
            },
            ["machine"] = new JsonObject
            {
                ["os"] = RuntimeInformation.OSDescription,
                ["architecture"] = RuntimeInformation.ProcessArchitecture.ToString(),
                ["processors"] = System.Environment.ProcessorCount,
            },
            ["wall_seconds"] = Math.Round(wall.TotalSeconds, 3),
            ["finished"] = TimeProvider.System.GetUtcNow().ToString("u", CultureInfo.InvariantCulture),
        };

    /// <exception cref="ConfigurationException">Not a hook, or one that is not harvested.</exception>
    private List<HookPoint> HooksOf(SaeConfig sae, string where)
    {
        var hooks =
            sae.Hooks?.Select(hook => HookPoint.Parse(hook, Model.Config.Layers, where)).ToList()
            ?? [.. Hooks.Where(hook => !sae.Transcoder || hook.Site == HookSite.ResidMid)];
        if (hooks.Count == 0 || (sae.Transcoder && hooks.Exists(hook => hook.Site != HookSite.ResidMid)))
        {
            throw new ConfigurationException(
                new Fault(
                    where,
                    string.Join(", ", sae.Hooks ?? [.. Hooks.Select(hook => hook.ToString())]),
                    "blocks.LAYER.hook_resid_mid for a transcoder",
                    "Harvest it and hook_mlp_out of the same layer"
                ).ToString()
            );
        }
        var missing = hooks.SelectMany(hook => new[] { hook, TargetOf(hook, sae) }).Except(Hooks).ToList();
        if (missing.Count > 0)
        {
            throw new ConfigurationException(
                new Fault(
                    where,
                    string.Join(", ", missing),
                    $"some of harvest.hooks: {string.Join(", ", Hooks)}",
                    "Harvest it too, or train elsewhere"
                ).ToString()
            );
        }
        return hooks;
    }

    private IEnumerable<Fault> Check(string where)
    {
        if (Config.Harvest.Context > Model.Config.Context)
        {
            yield return new Fault(
                $"{where}: harvest.context",
                $"{Config.Harvest.Context}",
                $"at most {Model.Config.Context}, the positions of {Config.Model}",
                "Choose a shorter context"
            );
        }
        if (Tokenizer.VocabularySize > Model.Config.Vocabulary)
        {
            yield return new Fault(
                $"{Config.Model}: tokenizer",
                $"ids up to {Tokenizer.VocabularySize - 1}",
                $"ids below {Model.Config.Vocabulary}, the model's vocab_size",
                "Take model and tokenizer of the same release"
            );
        }
        if (Hooks.Distinct().Count() < Hooks.Count)
        {
            yield return new Fault(
                $"{where}: harvest.hooks",
                string.Join(", ", Hooks),
                "different hooks (these are the resolved names)",
                "Remove the one that is there twice"
            );
        }
        foreach (bool heldOut in new[] { false, true })
        {
            if (!Documents(heldOut).Any())
            {
                yield return new Fault(
                    $"{where}: text: {Config.Text}",
                    heldOut ? "no document that is held out" : "no document to harvest",
                    "documents on both sides of the split by content (harvest.heldOut)",
                    "Give more text, or change harvest.heldOut"
                );
            }
        }
        int width = Model.Config.Width;
        foreach (var fault in Config.Train.Validate(width, "train"))
        {
            yield return fault with
            {
                Where = $"{where}: {fault.Where}",
            };
        }
    }
}
