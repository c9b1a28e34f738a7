namespace Pipeline.Shared.Configuration;

/// <summary>A file for <c>sae pretrain</c>: a small language model and its tokenizer from text.</summary>
public sealed record PretrainConfig
{
    /// <summary>Names the model in its own files and in messages.</summary>
    [FolderName]
    public required string Name { get; init; }

    /// <summary>The seed of initial weights and data order. Default 42.</summary>
    public ulong Seed { get; init; } = 42;

    /// <summary>The text source, as in a pipeline file. Required, here or by <c>--set</c>.</summary>
    [Remedy("Give it in the file or with --set text=PATH")]
    public required string Text { get; init; }

    /// <summary>The folder that is to hold the model, in Hugging Face layout. Required, here or by
    /// <c>--set</c>.</summary>
    [Remedy("Give it in the file or with --set out=FOLDER")]
    public required string Out { get; init; }

    /// <summary>The tokenizer. Default: <see cref="TokenizerTrainingConfig"/>'s defaults.</summary>
    public TokenizerTrainingConfig Tokenizer { get; init; } = new();

    /// <summary>The model's shape. Default: <see cref="LanguageModelConfig"/>'s defaults.</summary>
    public LanguageModelConfig Model { get; init; } = new();

    /// <summary>Tokens trained on, in as many passes over the text as that takes.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    /// <summary>Contexts per step. Default 32.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 32;

    /// <summary>The peak learning rate of AdamW. Default 1e-3.</summary>
    [Above(0)]
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>The learning rate at the end, as a fraction of the peak; the way down is a cosine. Default
    /// 0.1.</summary>
    [Between(0, 1)]
    public double MinLearningRateFraction { get; init; } = 0.1;

    /// <summary>The fraction of steps over which the learning rate rises from 0. Default 0.02.</summary>
    [Between(0, 1)]
    public double WarmupFraction { get; init; } = 0.02;

    /// <summary>AdamW's decoupled weight decay. Default 0.1; 0 switches it off.</summary>
    [AtLeast(0)]
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Adam's decay of the first moment. Default 0.9.</summary>
    [Between(0, 1, BelowMaximum = true)]
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Adam's decay of the second moment. Default 0.95.</summary>
    [Between(0, 1, BelowMaximum = true)]
    public double Beta2 { get; init; } = 0.95;

    /// <summary>The largest norm of the gradient. Default 1; 0 switches clipping off.</summary>
    [AtLeast(0)]
    public double GradientClip { get; init; } = 1.0;

    /// <summary>Steps between checkpoints. Default 200.</summary>
    [AtLeast(1)]
    public int CheckpointEvery { get; init; } = 200;

    /// <summary>The fraction of documents kept out of training to score the model on. Default 0.005; 0 keeps
    /// none.</summary>
    [Between(0, 1, BelowMaximum = true)]
    public double HeldOut { get; init; } = 0.005;

    /// <summary>How the finished weights are saved. Default float16.</summary>
    public WeightDtype Dtype { get; init; } = WeightDtype.Float16;

    /// <summary>CPU threads. Default: null, as many as the machine has cores.</summary>
    [AtLeast(1)]
    public int? Threads { get; init; }
}
