using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>A tensor in memory that another may use once this is disposed.</summary>
internal readonly struct LentTensor(Tensor value, Action? giveBack) : IDisposable
{
    public Tensor Value => value;

    public void Dispose()
    {
        value.Dispose();
        giveBack?.Invoke();
    }
}
