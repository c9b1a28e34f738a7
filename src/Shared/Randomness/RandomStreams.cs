using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Shared;

/// <summary>
/// Independent random streams from one seed: each stage derives its own by purpose, so that one stage drawing more
/// numbers moves no other stage's.
/// </summary>
public static class RandomStreams
{
    /// <summary>The seed of the stream (<paramref name="seed"/>, <paramref name="stage"/>, <paramref name="purpose"/>).</summary>
    /// <param name="seed">The pipeline's seed.</param>
    /// <param name="stage">Who draws, e.g. <c>train</c>.</param>
    /// <param name="purpose">What for, e.g. <c>initialization</c>.</param>
    /// <returns>The first 8 bytes, little-endian, of SHA-256 over the seed and the length-prefixed UTF-8 names.</returns>
    public static ulong Derive(ulong seed, string stage, string purpose)
    {
        byte[] stageBytes = Encoding.UTF8.GetBytes(stage);
        byte[] purposeBytes = Encoding.UTF8.GetBytes(purpose);
        byte[] message = new byte[16 + stageBytes.Length + purposeBytes.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(message, seed);
        BinaryPrimitives.WriteInt32LittleEndian(message.AsSpan(8), stageBytes.Length);
        stageBytes.CopyTo(message, 12);
        BinaryPrimitives.WriteInt32LittleEndian(message.AsSpan(12 + stageBytes.Length), purposeBytes.Length);
        purposeBytes.CopyTo(message, 16 + stageBytes.Length);
        return BinaryPrimitives.ReadUInt64LittleEndian(SHA256.HashData(message));
    }
}
