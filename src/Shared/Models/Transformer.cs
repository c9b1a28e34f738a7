using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A decoder-only transformer: tokens [B,T] -> embedding -> blocks -> final norm -> logits [B,T,V], float32.
/// Axes: B batch, T position, D width, H heads, V vocabulary. Works under <c>no_grad</c> for inference and without it for
/// training: every operation has a gradient.
/// </summary>
public sealed class Transformer : IDisposable
{
    private readonly RotaryTables? rotary;
    private readonly TensorForward tensors;
    private readonly CpuForward kernels;

    public Transformer(TransformerConfig config, TransformerWeights weights, Device? device = null)
    {
        Config = config;
        Weights = weights;
        Device = device ?? CPU;
        rotary = config.Rotary is { } settings ? new RotaryTables(settings, config.HeadWidth, Device) : null;
        tensors = new TensorForward(config, rotary, Device);
        kernels = new CpuForward(config, rotary, tensors);
    }

    public TransformerConfig Config { get; }
    public TransformerWeights Weights { get; }
    public Device Device { get; }

    /// <summary>Next-token logits [B,T,V] for <paramref name="tokensBT"/> (int64 ids, T at most the model's context).</summary>
    public Tensor Forward(Tensor tokensBT, ForwardHooks? hooks = null)
    {
        using var scope = NewDisposeScope();
        var residBTD = Residual(tokensBT, hooks, Config.Layers);
        return Unembed(residBTD).MoveToOuterDisposeScope();
    }

    /// <summary>The residual stream [B,T,D] after the last block, before the final norm: what <see cref="Unembed"/> takes.</summary>
    public Tensor ForwardResidual(Tensor tokensBT, ForwardHooks? hooks = null) =>
        Residual(tokensBT, hooks, Config.Layers);

    /// <summary>
    /// The same stream when <paramref name="value"/> [B,T,D] takes the place of what is at <paramref name="hook"/>. At a
    /// hook on the residual stream the blocks before it are not run.
    /// </summary>
    /// <param name="tokensBT">int64 ids, for hooks inside a block.</param>
    /// <param name="hook">Where.</param>
    /// <param name="value">Stays the caller's.</param>
    /// <param name="later">What is called beyond that hook; made for this call, which may add the value to it as one more
    /// replacement.</param>
    public Tensor ForwardResidualWith(Tensor tokensBT, HookPoint hook, Tensor value, ForwardHooks? later = null)
    {
        int? first = hook.Site switch
        {
            HookSite.ResidPre => hook.Layer,
            HookSite.ResidPost => hook.Layer + 1,
            _ => null,
        };
        return first is { } layer
            ? Blocks(value.alias(), ours: false, layer, Config.Layers, later)
            : ForwardResidual(tokensBT, (later ?? new ForwardHooks()).Replace(hook, _ => value.alias()));
    }

    /// <summary>Runs blocks up to the deepest hooked one and no further; readers are all there is to see of it.</summary>
    public void RunHooks(Tensor tokensBT, ForwardHooks hooks)
    {
        using var scope = NewDisposeScope();
        Residual(tokensBT, hooks, hooks.LastLayer + 1);
    }

    /// <summary>Final norm and unembedding: [.., D] to [.., V].</summary>
    public Tensor Unembed(Tensor resid)
    {
        using var scope = NewDisposeScope();
        var logits = Operations.Project(Weights.FinalNorm, Weights.Unembedding, resid);
        return (Config.LogitCap is { } cap ? TensorForward.Cap(logits, cap) : logits).MoveToOuterDisposeScope();
    }

    /// <summary>The same for as long as the caller needs it: matrices of this size, taken and freed, cost time and memory.</summary>
    internal LentTensor LendLogits(Tensor resid)
    {
        if (!CpuForward.Runs(Device) || Config.LogitCap is not null)
        {
            return new LentTensor(Unembed(resid), null);
        }
        return kernels.Lend(Weights.FinalNorm, Weights.Unembedding, resid);
    }

    public void Dispose()
    {
        rotary?.Dispose();
        kernels.Dispose();
        foreach (var (_, value) in Weights.Parameters())
        {
            value.Dispose();
        }
    }

    private IBlockOperations Operations => CpuForward.Runs(Device) ? kernels : tensors;

    private Tensor Residual(Tensor tokensBT, ForwardHooks? hooks, int layers)
    {
        long positions = tokensBT.shape[1];
        if (positions > Config.Context)
        {
            throw new ArgumentException(
                $"tokensBT has {positions} positions; this model was made for at most {Config.Context}."
            );
        }
        return Blocks(Embed(tokensBT), ours: true, 0, layers, hooks);
    }

    /// <summary>
    /// Runs blocks first .. last - 1; disposes what it is given, whose memory the stream may go on in where it is
    /// <paramref name="ours"/> alone.
    /// </summary>
    private Tensor Blocks(Tensor residBTD, bool ours, int first, int last, ForwardHooks? hooks)
    {
        for (int layer = first; layer < last; layer++)
        {
            var previous = residBTD;
            residBTD = Block(layer, previous, ours, hooks);
            ours = hooks?.MayKeep(layer, HookSite.ResidPost) != true;
            previous.Dispose(); // in training the graph holds what it needs
        }
        return residBTD;
    }

    private Tensor Embed(Tensor tokensBT)
    {
        using var scope = NewDisposeScope();
        var embedded = Weights
            .TokenEmbedding.index_select(0, tokensBT.reshape(-1))
            .view(tokensBT.shape[0], tokensBT.shape[1], Config.Width);
        if (Weights.PositionEmbedding is { } positions)
        {
            embedded = embedded + positions.narrow(0, 0, tokensBT.shape[1]);
        }
        if (Config.EmbeddingScale != 1)
        {
            embedded = embedded * (float)Config.EmbeddingScale;
        }
        return embedded.MoveToOuterDisposeScope();
    }

    private Tensor Block(int layer, Tensor x, bool ours, ForwardHooks? hooks)
    {
        using var scope = NewDisposeScope();
        var operations = Operations;
        var weights = Weights.Blocks[layer];
        Tensor Hooked(HookSite site, Tensor value) => hooks?.At(layer, site, value) ?? value;
        bool Passes(HookSite site) => hooks?.MayKeep(layer, site) != true;

        var residPreBTD = Hooked(HookSite.ResidPre, x.alias());
        bool mayOverwritePre = ours && !Config.ParallelResidual && Passes(HookSite.ResidPre);
        var residMidBTD = Hooked(
            HookSite.ResidMid,
            Add(
                residPreBTD,
                HookSite.AttnOut,
                resid => operations.Attention(layer, weights, residPreBTD, resid, mayOverwritePre)
            )
        );
        var mlpInBTD = Config.ParallelResidual ? residPreBTD : residMidBTD;
        return Hooked(
                HookSite.ResidPost,
                Add(
                    residMidBTD,
                    HookSite.MlpOut,
                    resid => operations.Mlp(weights, mlpInBTD, resid, Passes(HookSite.ResidMid))
                )
            )
            .MoveToOuterDisposeScope();

        // A branch adds its output to the stream itself, unless a hook wants to see it.
        Tensor Add(Tensor residBTD, HookSite site, Func<Tensor?, Tensor> branch) =>
            hooks?.Has(layer, site) == true ? residBTD + Hooked(site, branch(null)) : branch(residBTD);
    }
}
