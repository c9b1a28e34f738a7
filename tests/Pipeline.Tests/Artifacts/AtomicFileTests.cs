using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public sealed class AtomicFileTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void A_published_file_has_its_bytes_and_digest_and_leaves_no_temporary()
    {
        string path = folder["new", "deeper", "a.txt"];

        var digest = AtomicFile.WriteText(path, "Grüße");

        byte[] expected = Encoding.UTF8.GetBytes("Grüße");
        File.ReadAllBytes(path).Should().Equal(expected);
        digest.Should().Be(new FileDigest(7, Convert.ToHexStringLower(SHA256.HashData(expected))));
        AtomicFile.Digest(path).Should().Be(digest);
        Names(folder["new", "deeper"]).Should().Equal("a.txt");
    }

    [Fact]
    public void A_writer_that_throws_leaves_the_old_file_and_nothing_else()
    {
        string path = folder["a.txt"];
        AtomicFile.WriteText(path, "old");

        var write = () =>
            AtomicFile.Write(
                path,
                stream =>
                {
                    stream.Write(new byte[1 << 20]);
                    throw new InvalidOperationException("halfway");
                }
            );

        write.Should().Throw<InvalidOperationException>().WithMessage("halfway");
        File.ReadAllText(path).Should().Be("old");
        Names(folder.Path).Should().Equal("a.txt");
    }

    [Fact]
    public void Nothing_appears_under_the_final_name_before_the_commit()
    {
        string path = folder["a.txt"];
        using (var pending = AtomicFile.Begin(path))
        {
            pending.Stream.Write("content"u8);
            pending.Stream.Position.Should().Be(7);
            File.Exists(path).Should().BeFalse();
            pending.Commit();
        }
        File.ReadAllText(path).Should().Be("content");
        Names(folder.Path).Should().Equal("a.txt");
    }

    [Fact]
    public void RemoveTemporaries_takes_what_killed_writers_left_and_nothing_else()
    {
        string left = folder[$".a.txt.tmp-{Guid.NewGuid():N}"];
        foreach (string path in (string[])[left, folder[".a.tmp-notes"], folder["b.tmp-1"], folder["c.txt"]])
        {
            File.AppendAllText(path, "x");
        }

        AtomicFile.RemoveTemporaries(folder.Path);

        Names(folder.Path).Should().Equal(".a.tmp-notes", "b.tmp-1", "c.txt");
        AtomicFile.RemoveTemporaries(folder["absent"]);
    }

    private static IEnumerable<string?> Names(string path) =>
        Directory.EnumerateFileSystemEntries(path).Select(Path.GetFileName).Order(StringComparer.Ordinal);

    /// <summary>The disk is told in the background while more is written; what it answers must not be lost.</summary>
    [Fact]
    public void What_fails_on_the_way_to_the_disk_is_told_before_there_is_a_digest()
    {
        using var folder = new TempFolder();
        using var file = new UnflushableFile(folder["file"]);
        using var stream = new HashingStream(file, folder["file"]);
        stream.Write(new byte[9 << 20]);

        var finish = stream.Finish;

        finish.Should().Throw<ObjectDisposedException>();
    }

    private sealed class UnflushableFile(string path) : FileStream(path, FileMode.CreateNew, FileAccess.Write)
    {
        public override SafeFileHandle SafeFileHandle
        {
            get
            {
                var closed = File.OpenHandle(Name, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
                closed.Dispose();
                return closed;
            }
        }
    }
}
