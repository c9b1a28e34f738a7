namespace Pipeline.Tests;

/// <summary>Tests that measure what the whole process takes: nothing else may run beside them.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class MeasuresMemory
{
    public const string Name = "Measures memory";
}
