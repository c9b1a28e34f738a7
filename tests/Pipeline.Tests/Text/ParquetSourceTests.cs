using Parquet;
using Parquet.Schema;
using Pipeline.Shared;
using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

public sealed class ParquetSourceTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    private static readonly Document[] Documents =
    [
        .. Enumerable
            .Range(0, 100)
            .Select(i => new Document($"{i}", $"Title {i}", $"Text é {i} " + new string('x', i))),
    ];

    [Theory]
    [InlineData(CompressionMethod.None)]
    [InlineData(CompressionMethod.Snappy)]
    [InlineData(CompressionMethod.Gzip)]
    [InlineData(CompressionMethod.Zstd)]
    public void Rows_come_in_order_through_every_row_group_and_compression(CompressionMethod compression)
    {
        string path = folder["train-00000-of-00001.parquet"];
        TextFiles.WriteParquet(path, Documents, compression, rowGroup: 7);

        TextSources.Open(path, "test").Read().Should().Equal(Documents);
    }

    [Fact]
    public async Task Ids_may_be_numbers_and_nothing_but_text_must_be_there()
    {
        string path = folder["a.parquet"];
        var id = new DataField<long>("id");
        var text = new DataField<string>("text");
        await WriteAsync(
            path,
            [id, text],
            async group =>
            {
                await group.WriteAsync<long>(id, new long[] { 7, 8 });
                await group.WriteAsync(text, (IReadOnlyCollection<string>)["a", "b"]);
            }
        );

        TextSources.Open(path, "test").Read().Should().Equal(new Document("7", "", "a"), new Document("8", "", "b"));

        await WriteAsync(path, [text], group => group.WriteAsync(text, (IReadOnlyCollection<string>)["a", "b"]));

        TextSources
            .Open(path, "test")
            .Read()
            .Should()
            .Equal(new Document("a.parquet#0", "", "a"), new Document("a.parquet#1", "", "b"));
    }

    [Fact]
    public async Task A_file_without_texts_is_refused_by_column()
    {
        string path = folder["a.parquet"];
        var other = new DataField<string>("content");
        await WriteAsync(path, [other], group => group.WriteAsync(other, (IReadOnlyCollection<string>)["a"]));

        Refusal(path).Should().Contain("no column 'text'").And.Contain(path);

        var number = new DataField<long>("text");
        await WriteAsync(path, [number], group => group.WriteAsync<long>(number, new long[] { 1 }));

        Refusal(path).Should().Contain("not strings");
    }

    [Fact]
    public void Every_cut_is_refused_by_name()
    {
        string path = folder["a.parquet"];
        TextFiles.WriteParquet(path, Documents[..20], rowGroup: 10);
        byte[] whole = File.ReadAllBytes(path);
        for (int length = 0; length < whole.Length; length += 7)
        {
            TempFolder.Overwrite(path, whole.AsSpan(0, length));

            Refusal(path).Should().Contain(path).And.Contain("again");
        }
    }

    private static string Refusal(string path) =>
        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message;

    private static async Task WriteAsync(string path, DataField[] fields, Func<ParquetRowGroupWriter, Task> write)
    {
        await using var stream = new FileStream(path, FileMode.Create, FileAccess.ReadWrite);
        await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(fields), stream);
        using var group = writer.CreateRowGroup();
        await write(group);
        group.CompleteValidate();
    }
}
