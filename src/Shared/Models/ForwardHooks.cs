using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// What a forward pass calls on its way: readers see a value [B,T,D], replacers return what takes its place. At one hook
/// replacers run before readers, so that a reader sees what the model goes on with. Values die with the block's dispose
/// scope: a reader that keeps one must clone it or move it out, and one in passing must clone it.
/// </summary>
public sealed class ForwardHooks
{
    private readonly Dictionary<HookPoint, Func<Tensor, Tensor>> replacers = [];
    private readonly Dictionary<HookPoint, Action<Tensor>> readers = [];
    private readonly HashSet<HookPoint> passing = [];

    /// <summary>The deepest layer with a hook, -1 without hooks.</summary>
    public int LastLayer => readers.Keys.Concat(replacers.Keys).Select(hook => hook.Layer).DefaultIfEmpty(-1).Max();

    public ForwardHooks Read(HookPoint hook, Action<Tensor> reader)
    {
        readers.Add(hook, reader);
        return this;
    }

    /// <summary>The same for a reader that needs the value's memory no longer than its call: the stream may go on in it.</summary>
    public ForwardHooks ReadInPassing(HookPoint hook, Action<Tensor> reader)
    {
        passing.Add(hook);
        return Read(hook, reader);
    }

    public ForwardHooks Replace(HookPoint hook, Func<Tensor, Tensor> replacer)
    {
        replacers.Add(hook, replacer);
        return this;
    }

    /// <summary>Whether anything is called there.</summary>
    internal bool Has(int layer, HookSite site)
    {
        var hook = new HookPoint(layer, site);
        return readers.ContainsKey(hook) || replacers.ContainsKey(hook);
    }

    /// <summary>Whether what is called there may hold on to the value's memory.</summary>
    internal bool MayKeep(int layer, HookSite site)
    {
        var hook = new HookPoint(layer, site);
        return replacers.ContainsKey(hook) || (readers.ContainsKey(hook) && !passing.Contains(hook));
    }

    internal Tensor At(int layer, HookSite site, Tensor value)
    {
        var hook = new HookPoint(layer, site);
        if (replacers.TryGetValue(hook, out var replace))
        {
            var replaced = replace(value);
            if (!replaced.shape.AsSpan().SequenceEqual(value.shape))
            {
                throw new ArgumentException(
                    $"{hook}: the replacement has shape [{string.Join(", ", replaced.shape)}], expected [{string.Join(", ", value.shape)}]."
                );
            }
            value = replaced;
        }
        if (readers.TryGetValue(hook, out var read))
        {
            read(value);
        }
        return value;
    }
}
