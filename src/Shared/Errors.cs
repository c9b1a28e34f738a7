namespace Pipeline.Shared;

/// <summary>
/// An error a user can act on. Its message says what is wrong, where, what was expected and what to do; the command
/// prints it as one paragraph and exits with <see cref="ExitCode"/>.
/// </summary>
public abstract class PipelineException(string message, Exception? inner = null) : Exception(message, inner)
{
    public abstract int ExitCode { get; }
}

/// <summary>A stage could not finish (exit 1).</summary>
public sealed class StageFailedException(string message, Exception? inner = null) : PipelineException(message, inner)
{
    public override int ExitCode => 1;
}

/// <summary>Wrong usage, configuration or input the user chose (exit 2).</summary>
public sealed class ConfigurationException(string message, Exception? inner = null) : PipelineException(message, inner)
{
    public override int ExitCode => 2;
}

/// <summary>A file that should hold known bytes is missing, truncated or altered (exit 3).</summary>
public sealed class CorruptArtifactException(string message, Exception? inner = null)
    : PipelineException(message, inner)
{
    public override int ExitCode => 3;
}

/// <summary>Another run holds the folder (exit 4).</summary>
public sealed class FolderLockedException(string message, Exception? inner = null) : PipelineException(message, inner)
{
    public override int ExitCode => 4;
}

/// <summary>The run was interrupted after a checkpoint; running it again goes on from there (exit 5).</summary>
public sealed class RunInterruptedException(string message, Exception? inner = null) : PipelineException(message, inner)
{
    public override int ExitCode => 5;
}

/// <summary>One fault in the words every message uses: where, what was found, what was expected, what to do.</summary>
/// <param name="Where">A file, a file and field (<c>pipelines/a.yaml: train.batch</c>), or a command-line option.</param>
/// <param name="Found">What is there.</param>
/// <param name="Expected">What should be there.</param>
/// <param name="Remedy">What to do about it, as a sentence without its full stop.</param>
public sealed record Fault(string Where, string Found, string Expected, string Remedy)
{
    public override string ToString() => $"{Where}: found {Found}, expected {Expected}. {Remedy}.";
}
