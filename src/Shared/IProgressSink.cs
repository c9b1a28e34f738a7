namespace Pipeline.Shared;

/// <summary>Where long work tells how far it is; the command shows bars on a terminal and plain lines elsewhere.</summary>
public interface IProgressSink
{
    /// <param name="task">What is going on, the same text for the whole task.</param>
    /// <param name="done">Units done, from 0 to <paramref name="total"/>.</param>
    /// <param name="total">Units in all.</param>
    /// <param name="unit">What is counted, for example "tokens".</param>
    /// <param name="detail">The latest figure worth seeing, for example the loss.</param>
    void Update(string task, double done, double total, string unit, string detail = "");

    /// <summary>One line that stays.</summary>
    void Say(string line);
}
