using Pipeline.Shared;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// <code>
/// contexts ──model──> activations, clean logits
/// reconstruction ──rest of the model──> spliced logits ──> KL(clean ‖ spliced), with its gradient
/// </code>
/// The model itself is not trained.
/// </summary>
internal sealed class SplicedContexts(RunInputs run, HookPoint hook, HookPoint target) : IDisposable
{
    private readonly Transformer model = run.Model.Load(run.Device);

    /// <summary>The harvest's contexts in the text's order, so many at a time, over and over; from a batch on.</summary>
    public IEnumerable<PackedContext[]> Batches(int contexts, long skip)
    {
        while (true)
        {
            foreach (var batch in run.Batches(heldOut: false, long.MaxValue, contexts))
            {
                if (skip-- <= 0)
                {
                    yield return batch;
                }
            }
        }
    }

    /// <summary>A batch's activations, and what reconstructions of them do to the model.</summary>
    public TrainingBatch Clean(PackedContext[] batch)
    {
        var tokensBT = ContextTensor.Of(batch, run.Device);
        var read = new Dictionary<HookPoint, Tensor>();
        using var none = no_grad();
        var readers = new ForwardHooks();
        foreach (var at in new[] { hook, target }.Distinct())
        {
            // The block's scope ends before this batch does.
            readers.Read(at, x => read[at] = x.clone().MoveToOuterDisposeScope());
        }
        var cleanBTV = model.Unembed(model.ForwardResidual(tokensBT, readers)).log_softmax(-1);
        long[] shape = read[hook].shape;
        return new TrainingBatch(Rows(read[hook]), Rows(read[target]))
        {
            DivergenceOf = reconstructionRD =>
            {
                var splicedBTD = model.ForwardResidualWith(tokensBT, target, reconstructionRD.view(shape));
                var splicedBTV = model.Unembed(splicedBTD).log_softmax(-1);
                return (cleanBTV.exp() * (cleanBTV - splicedBTV)).sum(-1).mean();
            },
        };
    }

    public void Dispose() => model.Dispose();

    private static Tensor Rows(Tensor xBTD) => xBTD.reshape(-1, xBTD.shape[^1]);
}
