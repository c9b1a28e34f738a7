using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Google.Protobuf;

namespace Pipeline.Shared.Tokens;

/// <summary>
/// SentencePiece's BPE (Kudo and Richardson 2018): characters are merged by piece score, highest first and leftmost among
/// equals; what has no piece falls back to bytes. Own code because Microsoft.ML.Tokenizers' differs on runs of equal
/// characters.
/// </summary>
internal sealed class SentencePieceBpe : ITokenizer
{
    private const char Space = '\u2581';

    private readonly List<Piece> pieces = [];
    private readonly Dictionary<string, int> idOf = new(StringComparer.Ordinal);
    private readonly int[] byteIds = new int[256];
    private bool dummyPrefix = true;
    private int unknownId;

    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    private SentencePieceBpe(string hash) => Hash = hash;

    private enum PieceKind
    {
        Normal = 1,
        Unknown = 2,
        Control = 3,
        UserDefined = 4,
        Unused = 5,
        Byte = 6,
    }

    public int VocabularySize => pieces.Count;

    public int? BosId { get; private set; }

    public int? EosId { get; private set; }

    public string Hash { get; }

    public static SentencePieceBpe Read(string path, string hash) =>
        Read(
            path,
            "a SentencePiece model",
            hash,
            tokenizer => tokenizer.ReadModel(path, new CodedInputStream(ForeignFile.ReadBytes(path)))
        );

    /// <summary>
    /// llama2.c's tokenizer.bin (its tokenizer.py): the longest piece's bytes, then for each piece its score (float32), its
    /// number of bytes (int32) and its text with blanks for U+2581. It is made of a model of Llama's, so what it does not say
    /// is as there: unknown, BOS and EOS have the ids 0, 1 and 2, pieces <c>&lt;0xNN&gt;</c> are bytes, and a blank goes
    /// before the text.
    /// </summary>
    public static SentencePieceBpe ReadLlama2c(string path, string hash) =>
        Read(path, "a tokenizer of llama2.c", hash, tokenizer => tokenizer.ReadPieces(ForeignFile.ReadBytes(path)));

    private static SentencePieceBpe Read(string path, string expected, string hash, Action<SentencePieceBpe> read)
    {
        var tokenizer = new SentencePieceBpe(hash);
        try
        {
            read(tokenizer);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or ArgumentException or FormatException)
        {
            throw new ConfigurationException(
                new Fault(path, e.Message, expected, "Download the file again").ToString(),
                e
            );
        }
        return tokenizer;
    }

    public IReadOnlyList<int> Encode(string text)
    {
        string escaped = (dummyPrefix && text.Length > 0 ? " " + text : text).Replace(' ', Space);
        var symbols = new SymbolList(escaped, idOf, pieces);
        symbols.MergeAll();
        var ids = new List<int>();
        foreach (string symbol in symbols.Remaining())
        {
            if (idOf.TryGetValue(symbol, out int id))
            {
                ids.Add(id);
            }
            else
            {
                ids.AddRange(Encoding.UTF8.GetBytes(symbol).Select(b => byteIds[b]));
            }
        }
        return ids;
    }

    public string Decode(IReadOnlyList<int> ids)
    {
        string text = DecodePieces(ids);
        return dummyPrefix && text.StartsWith(' ') ? text[1..] : text;
    }

    public string TokenText(int id) => DecodePieces([id]);

    /// <summary>A byte without a piece becomes an unknown token of its own; control pieces stand for no text.</summary>
    public int BytesOf(int id, bool first) =>
        pieces[id].Kind switch
        {
            PieceKind.Byte or PieceKind.Unknown => 1,
            PieceKind.Control => 0,
            _ => Encoding.UTF8.GetByteCount(pieces[id].Text.Replace(Space, ' '))
                - (first && dummyPrefix && pieces[id].Text.StartsWith(Space) ? 1 : 0),
        };

    private string DecodePieces(IReadOnlyList<int> ids)
    {
        var bytes = new List<byte>();
        foreach (int id in ids)
        {
            var piece = pieces[id];
            if (piece.Kind == PieceKind.Byte)
            {
                bytes.Add(byte.Parse(piece.Text.AsSpan(3, 2), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            }
            else
            {
                bytes.AddRange(Encoding.UTF8.GetBytes(piece.Text.Replace(Space, ' ')));
            }
        }
        return Encoding.UTF8.GetString([.. bytes]);
    }

    /// <summary>ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec (sentencepiece_model.proto).</summary>
    private void ReadModel(string path, CodedInputStream input)
    {
        int modelType = 1;
        int bos = 1;
        int eos = 2;
        string normalizer = "";
        while (input.ReadTag() is var tag and not 0)
        {
            switch (WireFormat.GetTagFieldNumber(tag))
            {
                case 1:
                    AddPiece(input.ReadBytes().CreateCodedInput());
                    break;
                case 2:
                    ReadFields(
                        input,
                        (field, spec) =>
                        {
                            switch (field)
                            {
                                case 3:
                                    modelType = spec.ReadInt32();
                                    return true;
                                case 41:
                                    bos = spec.ReadInt32();
                                    return true;
                                case 42:
                                    eos = spec.ReadInt32();
                                    return true;
                                default:
                                    return false;
                            }
                        }
                    );
                    break;
                case 3:
                    ReadFields(
                        input,
                        (field, spec) =>
                        {
                            switch (field)
                            {
                                case 1:
                                    normalizer = spec.ReadString();
                                    return true;
                                case 3:
                                    dummyPrefix = spec.ReadBool();
                                    return true;
                                default:
                                    return false;
                            }
                        }
                    );
                    break;
                default:
                    input.SkipLastField();
                    break;
            }
        }
        const int Bpe = 2;
        if (modelType != Bpe)
        {
            throw Refuse(path, "trainer_spec.model_type", $"{modelType}", "2 (BPE)");
        }
        if (normalizer is not ("identity" or ""))
        {
            throw Refuse(path, "normalizer_spec.name", $"'{normalizer}'", "identity");
        }
        if (pieces.Find(p => p.Kind == PieceKind.UserDefined) is { } userDefined)
        {
            throw Refuse(path, "pieces", $"user-defined piece '{userDefined.Text}'", "no user-defined pieces");
        }
        Index(bos, eos);
    }

    private void ReadPieces(ReadOnlySpan<byte> bytes)
    {
        string[] first = ["<unk>", "\n<s>\n", "\n</s>\n"];
        PieceKind[] kinds = [PieceKind.Unknown, PieceKind.Control, PieceKind.Control];
        const int PieceHeader = sizeof(float) + sizeof(int);
        for (int at = sizeof(int); at < bytes.Length; )
        {
            int id = pieces.Count;
            int left = bytes.Length - at - PieceHeader;
            int length = left < 0 ? -1 : BinaryPrimitives.ReadInt32LittleEndian(bytes[(at + sizeof(float))..]);
            if (length < 0 || length > left)
            {
                throw new FormatException($"piece {id} at byte {at} ends beyond the file");
            }
            string text = StrictUtf8.GetString(bytes.Slice(at + PieceHeader, length));
            if (id < first.Length && text != first[id])
            {
                throw new FormatException($"piece {id} is not {first[id].Trim()}");
            }
            Add(
                id < first.Length ? text.Trim() : text.Replace(' ', Space),
                BinaryPrimitives.ReadSingleLittleEndian(bytes[at..]),
                id < kinds.Length ? kinds[id]
                    : IsByte(text) ? PieceKind.Byte
                    : PieceKind.Normal
            );
            at += PieceHeader + length;
        }
        if (pieces.Count < first.Length)
        {
            throw new FormatException($"{pieces.Count} pieces");
        }
        Index(bos: 1, eos: 2);
    }

    private static bool IsByte(string text) =>
        text is ['<', '0', 'x', var high, var low, '>'] && char.IsAsciiHexDigit(high) && char.IsAsciiHexDigit(low);

    /// <summary>What is looked up by id, once all pieces are there.</summary>
    private void Index(int bos, int eos)
    {
        Array.Fill(byteIds, unknownId);
        for (int id = 0; id < pieces.Count; id++)
        {
            if (pieces[id].Kind == PieceKind.Byte)
            {
                byteIds[
                    byte.Parse(pieces[id].Text.AsSpan(3, 2), NumberStyles.HexNumber, CultureInfo.InvariantCulture)
                ] = id;
            }
        }
        BosId = bos >= 0 && bos < pieces.Count ? bos : null;
        EosId = eos >= 0 && eos < pieces.Count ? eos : null;
    }

    private void AddPiece(CodedInputStream input)
    {
        string text = "";
        float score = 0;
        var kind = PieceKind.Normal;
        while (input.ReadTag() is var tag and not 0)
        {
            switch (WireFormat.GetTagFieldNumber(tag))
            {
                case 1:
                    text = input.ReadString();
                    break;
                case 2:
                    score = input.ReadFloat();
                    break;
                case 3:
                    kind = (PieceKind)input.ReadEnum();
                    break;
                default:
                    input.SkipLastField();
                    break;
            }
        }
        Add(text, score, kind);
    }

    private void Add(string text, float score, PieceKind kind)
    {
        int id = pieces.Count;
        pieces.Add(new Piece(text, score, kind));
        if (kind == PieceKind.Normal)
        {
            idOf[text] = id;
        }
        if (kind == PieceKind.Unknown)
        {
            unknownId = id;
        }
    }

    private static void ReadFields(CodedInputStream outer, Func<int, CodedInputStream, bool> read)
    {
        var input = outer.ReadBytes().CreateCodedInput();
        while (input.ReadTag() is var tag and not 0)
        {
            if (!read(WireFormat.GetTagFieldNumber(tag), input))
            {
                input.SkipLastField();
            }
        }
    }

    private static ConfigurationException Refuse(string path, string field, string found, string expected) =>
        new(
            new Fault(
                $"{path}: {field}",
                found,
                expected,
                "This tokenizer cannot be reproduced exactly yet; choose a model with another tokenizer"
            ).ToString()
        );

    private sealed record Piece(string Text, float Score, PieceKind Kind);

    /// <summary>Symbols as a doubly linked list over one string, with candidate merges in a priority queue: O(n log n).</summary>
    private sealed class SymbolList
    {
        private readonly string text;
        private readonly Dictionary<string, int> idOf;
        private readonly List<Piece> pieces;
        private readonly int[] start;
        private readonly int[] length; // 0 once merged into the symbol before
        private readonly int[] next;
        private readonly int[] previous;
        private readonly PriorityQueue<(int Left, int Right, int Length), (float, int)> candidates = new();

        public SymbolList(string text, Dictionary<string, int> idOf, List<Piece> pieces)
        {
            (this.text, this.idOf, this.pieces) = (text, idOf, pieces);
            var starts = new List<int>();
            for (int i = 0; i < text.Length; i += char.IsSurrogatePair(text, i) ? 2 : 1)
            {
                starts.Add(i);
            }
            int count = starts.Count;
            start = [.. starts];
            length = [.. starts.Select((s, i) => (i + 1 < count ? starts[i + 1] : text.Length) - s)];
            next = [.. Enumerable.Range(1, count)];
            previous = [.. Enumerable.Range(-1, count)];
            for (int i = 0; i + 1 < count; i++)
            {
                Consider(i, i + 1);
            }
        }

        public void MergeAll()
        {
            while (candidates.TryDequeue(out var candidate, out _))
            {
                var (left, right, total) = candidate;
                bool stale = length[left] == 0 || length[right] == 0 || length[left] + length[right] != total;
                if (stale || next[left] != right)
                {
                    continue;
                }
                length[left] = total;
                length[right] = 0;
                next[left] = next[right];
                if (next[left] < start.Length)
                {
                    previous[next[left]] = left;
                    Consider(left, next[left]);
                }
                if (previous[left] >= 0)
                {
                    Consider(previous[left], left);
                }
            }
        }

        public IEnumerable<string> Remaining()
        {
            for (int i = 0; i < start.Length; i = next[i])
            {
                yield return text.Substring(start[i], length[i]);
            }
        }

        private void Consider(int left, int right)
        {
            int total = length[left] + length[right];
            if (idOf.TryGetValue(text.Substring(start[left], total), out int id))
            {
                candidates.Enqueue((left, right, total), (-pieces[id].Score, left));
            }
        }
    }
}
