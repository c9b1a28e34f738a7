using System.Globalization;
using Parquet;
using Parquet.Schema;

namespace Pipeline.Shared.Text;

/// <summary>
/// *.parquet with a column <c>text</c>, and <c>id</c> and <c>title</c> where there are such, as wikimedia/wikipedia on the
/// hub. One row group is in memory at a time.
/// </summary>
public sealed class ParquetSource(IReadOnlyList<string> files) : ITextSource
{
    /// <summary>wikimedia/wikipedia has 1,000 rows in a row group.</summary>
    private const long MaximumGroupRows = 1 << 22;

    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => path.EndsWith(".parquet", StringComparison.OrdinalIgnoreCase);

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile).Where(document => document.HasText);

    private static IEnumerable<Document> ReadFile(string file)
    {
        using var table = Table.Open(file);
        for (int group = 0; group < table.Groups; group++)
        {
            foreach (var document in table.Read(group))
            {
                yield return document;
            }
        }
    }

    private sealed class Table : IDisposable
    {
        private readonly string file;
        private readonly string name;
        private readonly FileStream stream;
        private readonly ParquetReader reader;
        private readonly DataField text;
        private readonly DataField? id;
        private readonly DataField? title;
        private long rowsBefore;

        private Table(string file, FileStream stream, ParquetReader reader)
        {
            (this.file, this.stream, this.reader) = (file, stream, reader);
            name = Path.GetFileName(file);
            text = Column("text") ?? throw Malformed("no column 'text'", "schema", null);
            id = Column("id");
            title = Column("title");
            if (!IsText(text) || (title is not null && !IsText(title)))
            {
                throw Malformed("columns 'text' and 'title' that are not strings", "schema", null);
            }
        }

        public int Groups => reader.RowGroupCount;

        public static Table Open(string file)
        {
            var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.Read);
            try
            {
                return Foreign(
                    file,
                    "footer",
                    () =>
                    {
                        ParquetShape.CheckFooter(stream);
                        var reader = ParquetReader.CreateAsync(stream, leaveStreamOpen: true).GetAwaiter().GetResult();
                        return new Table(file, stream, reader);
                    }
                );
            }
            catch
            {
                stream.Dispose();
                throw;
            }
        }

        /// <summary>The documents of a row group.</summary>
        public Document[] Read(int group)
        {
            string where = string.Create(CultureInfo.InvariantCulture, $"row group {group}");
            return Foreign(
                file,
                where,
                () =>
                {
                    using var rows = reader.OpenRowGroupReader(group);
                    Check(rows, where);
                    string?[] texts = Strings(rows, text);
                    string?[]? titles = title is null ? null : Strings(rows, title);
                    string?[]? ids = id is null ? null : Strings(rows, id);
                    var documents = new Document[texts.Length];
                    for (int row = 0; row < texts.Length; row++)
                    {
                        string number = (rowsBefore + row).ToString(CultureInfo.InvariantCulture);
                        documents[row] = new Document(
                            ids?[row] ?? $"{name}#{number}",
                            titles?[row] ?? "",
                            texts[row] ?? ""
                        );
                    }
                    rowsBefore += texts.Length;
                    return documents;
                }
            );
        }

        public void Dispose()
        {
            reader.DisposeAsync().AsTask().GetAwaiter().GetResult();
            stream.Dispose();
        }

        private DataField? Column(string wanted) =>
            Array.Find(reader.Schema.DataFields, field => field.Path.ToString() == wanted && !field.IsArray);

        private static bool IsText(DataField field) => field.ClrType == typeof(ReadOnlyMemory<char>);

        private static string?[] Strings(ParquetRowGroupReader rows, DataField field)
        {
            if (IsText(field))
            {
                string?[] strings = new string?[rows.RowCount];
                rows.ReadAsync(field, strings.AsMemory()).AsTask().GetAwaiter().GetResult();
                return strings;
            }
            return field.ClrType == typeof(long) ? Numbers<long>(rows, field)
                : field.ClrType == typeof(int) ? Numbers<int>(rows, field)
                : throw new InvalidDataException($"a column '{field.Name}' of {field.ClrType.Name}");
        }

        private static string?[] Numbers<T>(ParquetRowGroupReader rows, DataField field)
            where T : struct, IFormattable
        {
            var numbers = new T?[rows.RowCount];
            rows.ReadAsync<T>(field, numbers.AsMemory()).AsTask().GetAwaiter().GetResult();
            return [.. numbers.Select(number => number?.ToString(null, CultureInfo.InvariantCulture))];
        }

        /// <summary>Sizes are checked as the file gives them, before memory is taken for them.</summary>
        private void Check(ParquetRowGroupReader rows, string where)
        {
            long bytes = 0;
            foreach (var field in new[] { text, id, title }.OfType<DataField>())
            {
                var meta =
                    rows.GetMetadata(field)?.MetaData ?? throw Malformed($"no column '{field.Name}'", where, null);
                bytes += Math.Clamp(meta.TotalUncompressedSize, 0, long.MaxValue / 4);
                if (rows.RowCount is < 0 or > MaximumGroupRows || bytes > ParquetShape.MaximumColumnBytes)
                {
                    throw new ConfigurationException(
                        new Fault(
                            $"{file}: {where}",
                            $"{rows.RowCount} rows of {bytes >> 20} MB",
                            $"at most {MaximumGroupRows} rows and {ParquetShape.MaximumColumnBytes >> 20} MB, read at a time",
                            "Write the file again with smaller row groups"
                        ).ToString()
                    );
                }
                ParquetShape.CheckPages(
                    stream,
                    meta.DictionaryPageOffset is > 0 and { } first && first < meta.DataPageOffset
                        ? first
                        : meta.DataPageOffset,
                    meta.TotalCompressedSize,
                    rows.RowCount
                );
            }
        }

        private ConfigurationException Malformed(string found, string where, Exception? inner) =>
            Fault(file, where, found, inner);

        private static ConfigurationException Fault(string file, string where, string found, Exception? inner) =>
            new(
                new Fault(
                    $"{file}: {where}",
                    found,
                    "a Parquet file with a column 'text' of strings, and perhaps 'id' and 'title'",
                    "Download or write it again"
                ).ToString(),
                inner
            );

        /// <summary>Words whatever the library throws at damage; sizes that a damaged header gives may be beyond memory.</summary>
        private static T Foreign<T>(string file, string where, Func<T> read)
        {
            try
            {
                return read();
            }
            catch (Exception e) when (e is not PipelineException)
            {
                throw Fault(file, where, e.Message.TrimEnd('.'), e);
            }
        }
    }
}
