using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Shared;

/// <summary>Seeds of independent random streams, each derived from the run's seed, a stage and a purpose.</summary>
public static class RandomStreams
{
    public static ulong Derive(ulong seed, string stage, string purpose)
    {
        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes($"{seed}\0{stage}\0{purpose}"));
        return BinaryPrimitives.ReadUInt64LittleEndian(hash);
    }
}
