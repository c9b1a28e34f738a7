namespace Pipeline.Shared.Configuration;

/// <summary>The learning rate's course after its warm-up.</summary>
public enum Schedule
{
    /// <summary>Stays at its peak.</summary>
    Constant,

    /// <summary>Stays at its peak and falls linearly to 0 at the end.</summary>
    Linear,

    /// <summary>Falls to 0 along half a cosine.</summary>
    Cosine,

    /// <summary>Falls to 0 along half a cosine, several times, back at its peak at once after each.</summary>
    CosineRestarts,
}
