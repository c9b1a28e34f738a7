using Pipeline.Shared;

namespace Pipeline.Executors;

/// <summary>
/// Where a stage's work is done. Each call returns when the folders it was given are complete, or throws; what it finds
/// done already is not done again.
/// </summary>
internal interface IExecutor
{
    void Harvest(StageGraph graph, IProgressSink progress, CancellationToken cancel);

    /// <param name="graph">The pipeline.</param>
    /// <param name="stale">The SAEs to train.</param>
    /// <param name="progress">Where it tells how far it is.</param>
    /// <param name="cancel">Stops it after a checkpoint.</param>
    void Train(StageGraph graph, IReadOnlyList<SaeNode> stale, IProgressSink progress, CancellationToken cancel);

    /// <inheritdoc cref="Train"/>
    void Evaluate(StageGraph graph, IReadOnlyList<SaeNode> stale, IProgressSink progress, CancellationToken cancel);
}
