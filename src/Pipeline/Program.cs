var t = TorchSharp.torch.rand(3);
Console.WriteLine(t.ToString(TorchSharp.TensorStringStyle.Numpy));
