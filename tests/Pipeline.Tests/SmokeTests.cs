using TorchSharp;
namespace Pipeline.Tests;
public class SmokeTests { [Fact] public void Torch_loads() => torch.ones(2).sum().item<float>().Should().Be(2); }
