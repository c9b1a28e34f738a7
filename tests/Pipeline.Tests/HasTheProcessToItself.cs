namespace Pipeline.Tests;

/// <summary>Tests that change what the whole process shares, its thread pool or libtorch's threads: nothing else may run beside them.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class HasTheProcessToItself
{
    public const string Name = "Has the process to itself";
}
