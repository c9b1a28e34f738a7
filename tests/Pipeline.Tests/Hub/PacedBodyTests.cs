using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

public sealed class PacedBodyTests
{
    private static readonly HubOptions Options = new() { CacheFolder = "unused" };

    private readonly TestTime time = new();

    /// <param name="bytes">Of each read.</param>
    /// <param name="seconds">That each read waits.</param>
    /// <param name="reads">After which the body is given up; null where it never is.</param>
    [Theory]
    [InlineData(1, 29, 3)]
    [InlineData(1, 60, 1)]
    [InlineData((64 << 10) - 1, 60, 1)]
    [InlineData(64 << 10, 60, null)]
    [InlineData((64 << 10) / 3, 29, 3)] // 87 s, and a byte too few
    [InlineData((64 << 10) / 3 + 1, 29, null)]
    [InlineData(1, 0, null)]
    public async Task A_body_is_given_up_after_a_window_with_too_few_bytes(int bytes, int seconds, int? reads)
    {
        using var watch = new StallWatch(time, TimeSpan.FromHours(1), CancellationToken.None);
        using var body = new PacedBody(new Drips(time, bytes, seconds), watch, Options, time);

        (await ReadsBeforeGivingUp(body, () => { })).Should().Be(reads);
    }

    [Fact]
    public async Task Time_between_reads_is_not_the_servers()
    {
        using var watch = new StallWatch(time, TimeSpan.FromHours(1), CancellationToken.None);
        using var body = new PacedBody(new Drips(time, bytes: 1, seconds: 1), watch, Options, time);

        (await ReadsBeforeGivingUp(body, () => time.Pass(TimeSpan.FromHours(1)))).Should().Be(60);
    }

    [Fact]
    public async Task A_quick_beginning_does_not_excuse_what_follows()
    {
        using var watch = new StallWatch(time, TimeSpan.FromHours(1), CancellationToken.None);
        var drips = new Drips(time, bytes: 1 << 20, seconds: 20);
        using var body = new PacedBody(drips, watch, Options, time);
        int reads = 0;

        var given = await ReadsBeforeGivingUp(
            body,
            () =>
            {
                if (++reads == 3) // a window has passed
                {
                    drips.Bytes = 1;
                }
            }
        );

        given.Should().Be(6);
    }

    private static async Task<int?> ReadsBeforeGivingUp(PacedBody body, Action afterRead)
    {
        byte[] buffer = new byte[1 << 20];
        for (int reads = 1; reads <= 100; reads++)
        {
            (await body.ReadAsync(buffer)).Should().BePositive();
            try
            {
                body.RequirePace();
            }
            catch (HubTransientException)
            {
                return reads;
            }
            afterRead();
        }
        return null;
    }

    /// <summary>Endless; each read gives so many bytes after so many seconds.</summary>
    private sealed class Drips(TestTime time, int bytes, int seconds) : MemoryStream
    {
        public int Bytes { get; set; } = bytes;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            time.Pass(TimeSpan.FromSeconds(seconds));
            return new(Bytes);
        }
    }
}
