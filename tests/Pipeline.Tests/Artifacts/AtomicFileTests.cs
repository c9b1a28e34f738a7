using System.Security.Cryptography;
using System.Text;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public class AtomicFileTests
{
    [Fact]
    public void The_digest_is_that_of_the_bytes_on_disk()
    {
        using var folder = new TempFolder();
        string path = folder.File("a", "b.txt");

        var digest = AtomicFile.WriteText(path, "some text");

        File.ReadAllText(path).Should().Be("some text");
        digest.Sha256.Should().Be(Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes("some text"))));
        FileDigest.Of(path).Should().Be(digest);
    }

    [Fact]
    public void A_writer_that_throws_leaves_the_old_file_and_no_other()
    {
        using var folder = new TempFolder();
        string path = folder.File("file");
        AtomicFile.WriteText(path, "old");

        Action failing = () =>
            AtomicFile.Write(
                path,
                stream =>
                {
                    stream.WriteByte(1);
                    throw new IOException("no");
                }
            );

        failing.Should().Throw<IOException>();
        File.ReadAllText(path).Should().Be("old");
        Directory.GetFileSystemEntries(folder.Path).Should().Equal(path);
    }

    [Fact]
    public void What_killed_writers_left_is_removed()
    {
        using var folder = new TempFolder();
        string kept = folder.Write("x/shard.arrow", "1");
        folder.Write("x/.shard.arrow.tmp-0123", "2");

        AtomicFile.RemoveTemporaries(folder.Path);

        Directory.GetFiles(folder.File("x")).Should().Equal(kept);
    }
}
