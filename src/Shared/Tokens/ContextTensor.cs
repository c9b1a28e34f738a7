using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tokens;

/// <summary>Packed contexts as a model's input.</summary>
public static class ContextTensor
{
    /// <summary>int64 [B, T]; the contexts have one length.</summary>
    public static Tensor Of(PackedContext[] batch, Device device)
    {
        long[] ids = [.. batch.SelectMany(context => context.Tokens.Select(token => (long)token))];
        return tensor(ids, batch.Length, batch[0].Tokens.Length, dtype: int64, device: device);
    }
}
