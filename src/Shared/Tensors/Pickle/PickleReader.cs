using System.Buffers.Binary;
using System.Text;

namespace Pipeline.Shared.Tensors.Pickle;

/// <summary>What is wrong with a pickle, to be told with the file's name.</summary>
internal sealed class PickleRefusedException(string found, string expected) : Exception($"{found}; expected {expected}")
{
    public string Found { get; } = found;

    public string Expected { get; } = expected;
}

/// <summary>
/// Reads a pickle as data. It knows the opcodes torch.save writes and a closed list of globals, and builds strings, numbers,
/// tuples, lists, dictionaries and tensor descriptions; any other global, and a call of anything else, is refused by name.
/// Nothing is ever executed. Work and memory are bounded by the pickle's length.
/// </summary>
internal sealed class PickleReader
{
    private const string DataOnly = "a state dict: names, numbers and tensors only";

    private readonly byte[] bytes;
    private readonly List<object?> stack = [];
    private readonly Dictionary<long, object?> memo = [];
    private int at;

    private PickleReader(byte[] bytes) => this.bytes = bytes;

    /// <returns>
    /// A string, long, double, bool, null, object?[] (tuple), List&lt;object?&gt;, <see cref="PickledDictionary"/> or
    /// <see cref="PickledTensor"/>.
    /// </returns>
    /// <exception cref="PickleRefusedException">Not a pickle, damaged, or one that holds more than data.</exception>
    public static object? Read(byte[] bytes) => new PickleReader(bytes).Read();

    private object? Read()
    {
        while (true)
        {
            byte opcode = Take(1)[0];
            if (opcode == (byte)'.')
            {
                object? result = Pop();
                return stack.Count == 0 ? Data(result) : throw Damaged($"{stack.Count} values too many at its end");
            }
            Execute(opcode);
        }
    }

    private void Execute(byte opcode)
    {
        switch (opcode)
        {
            case 0x80: // PROTO
                byte protocol = Take(1)[0];
                if (protocol > 5)
                {
                    throw new PickleRefusedException($"pickle protocol {protocol}", "protocol 5 or older");
                }
                break;
            case 0x95: // FRAME
                Take(8);
                break;
            case (byte)'(':
                stack.Add(Mark.Instance);
                break;
            case (byte)'0':
                Pop();
                break;
            case (byte)'N':
                stack.Add(null);
                break;
            case 0x88:
                stack.Add(true);
                break;
            case 0x89:
                stack.Add(false);
                break;
            case (byte)'K':
                stack.Add((long)Take(1)[0]);
                break;
            case (byte)'M':
                stack.Add((long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2)));
                break;
            case (byte)'J':
                stack.Add((long)BinaryPrimitives.ReadInt32LittleEndian(Take(4)));
                break;
            case 0x8A: // LONG1
                stack.Add(ReadLong(Take(1)[0]));
                break;
            case (byte)'G':
                stack.Add(BinaryPrimitives.ReadDoubleBigEndian(Take(8)));
                break;
            case (byte)'X':
                stack.Add(Text(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))));
                break;
            case 0x8C: // SHORT_BINUNICODE
                stack.Add(Text(Take(1)[0]));
                break;
            case (byte)')':
                stack.Add(System.Array.Empty<object?>());
                break;
            case 0x85:
            case 0x86:
            case 0x87: // TUPLE1 to TUPLE3
                stack.Add(PopMany(opcode - 0x84));
                break;
            case (byte)'t':
                stack.Add(PopToMark());
                break;
            case (byte)']':
                stack.Add(new List<object?>());
                break;
            case (byte)'l':
                stack.Add(new List<object?>(PopToMark()));
                break;
            case (byte)'a':
                object? item = Data(Pop());
                Top<List<object?>>("a list to append to").Add(item);
                break;
            case (byte)'e':
                var items = PopToMark();
                Top<List<object?>>("a list to append to").AddRange(items);
                break;
            case (byte)'}':
                stack.Add(new PickledDictionary());
                break;
            case (byte)'d':
                var pairs = PopToMark();
                stack.Add(new PickledDictionary());
                SetItems(pairs);
                break;
            case (byte)'s':
                SetItems(PopMany(2));
                break;
            case (byte)'u':
                SetItems(PopToMark());
                break;
            case (byte)'q':
                Memoize(Take(1)[0]);
                break;
            case (byte)'r':
                Memoize(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)));
                break;
            case 0x94: // MEMOIZE
                Memoize(memo.Count);
                break;
            case (byte)'h':
                Recall(Take(1)[0]);
                break;
            case (byte)'j':
                Recall(BinaryPrimitives.ReadUInt32LittleEndian(Take(4)));
                break;
            case (byte)'c':
                stack.Add(PickleGlobal.Find($"{Line()}.{Line()}"));
                break;
            case 0x93: // STACK_GLOBAL
                var names = PopMany(2);
                stack.Add(PickleGlobal.Find($"{Expect<string>(names[0])}.{Expect<string>(names[1])}"));
                break;
            case (byte)'Q':
                stack.Add(Storage(Pop()));
                break;
            case (byte)'R':
                var arguments = Expect<object?[]>(Pop());
                stack.Add(Expect<PickleGlobal>(Pop()).Call(arguments));
                break;
            case (byte)'b': // BUILD: torch attaches _metadata (module versions) to a state dict; it says nothing of weights
                Data(Pop());
                Top<PickledDictionary>("a dictionary to attach attributes to");
                break;
            default:
                throw new PickleRefusedException(
                    FormattableString.Invariant($"pickle opcode 0x{opcode:X2} at byte {at - 1}"),
                    DataOnly
                );
        }
    }

    private void SetItems(object?[] pairs)
    {
        var target = Top<PickledDictionary>("a dictionary to fill");
        if (pairs.Length % 2 != 0)
        {
            throw Damaged("a key without a value");
        }
        for (int i = 0; i < pairs.Length; i += 2)
        {
            if (pairs[i] is not (string or long or double or bool or null))
            {
                throw new PickleRefusedException("a dictionary key that is no string or number", DataOnly);
            }
            target.Set(pairs[i] ?? "None", pairs[i + 1]);
        }
    }

    /// <summary>("storage", type, key, location, count): where a tensor's elements lie.</summary>
    private static PickledStorageReference Storage(object? persistentId) =>
        persistentId is object?[] { Length: 5 } id
        && id[0] is "storage"
        && id[1] is PickleGlobal { StorageType: { } type }
        && id[2] is string key
        && id[4] is long count and >= 0
            ? new PickledStorageReference(key, PickledStorage.TypeOf(type), count)
            : throw new PickleRefusedException(
                "a reference to something that is not a typed tensor storage",
                "storages of " + string.Join(", ", PickledStorage.Names)
            );

    private long ReadLong(int length)
    {
        if (length > 8)
        {
            throw Damaged($"an integer of {length} bytes");
        }
        long value = 0;
        var digits = Take(length);
        for (int i = length - 1; i >= 0; i--)
        {
            value = (value << 8) | digits[i];
        }
        int unused = 64 - (8 * length);
        return length == 0 ? 0 : value << unused >> unused; // the top byte carries the sign
    }

    private string Text(uint length)
    {
        try
        {
            return StrictUtf8.GetString(Take(length));
        }
        catch (DecoderFallbackException)
        {
            throw Damaged("a string that is not UTF-8");
        }
    }

    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    private string Line()
    {
        int end = bytes.AsSpan(at).IndexOf((byte)'\n');
        if (end is < 0 or > 256)
        {
            throw Damaged("a global without a name");
        }
        string line = Encoding.Latin1.GetString(Take(end));
        Take(1);
        return line;
    }

    private ReadOnlySpan<byte> Take(long count)
    {
        if (count > bytes.Length - at)
        {
            throw Damaged($"its end at byte {bytes.Length}, {count} more were announced");
        }
        var taken = bytes.AsSpan(at, (int)count);
        at += (int)count;
        return taken;
    }

    private void Memoize(long key) => memo[key] = stack.Count > 0 ? stack[^1] : throw Damaged("an empty stack");

    private void Recall(long key) =>
        stack.Add(memo.TryGetValue(key, out object? value) ? value : throw Damaged($"no memo {key}"));

    private object? Pop()
    {
        if (stack.Count == 0 || stack[^1] is Mark)
        {
            throw Damaged("an empty stack");
        }
        object? value = stack[^1];
        stack.RemoveAt(stack.Count - 1);
        return value;
    }

    private object?[] PopMany(int count)
    {
        object?[] values = new object?[count];
        for (int i = count - 1; i >= 0; i--)
        {
            values[i] = Pop();
        }
        return values;
    }

    private object?[] PopToMark()
    {
        int mark = stack.LastIndexOf(Mark.Instance);
        if (mark < 0)
        {
            throw Damaged("a list without its beginning");
        }
        object?[] values = [.. stack.Skip(mark + 1)];
        stack.RemoveRange(mark, stack.Count - mark);
        return values;
    }

    private T Top<T>(string expected) =>
        stack.Count > 0 && stack[^1] is T value ? value : throw new PickleRefusedException("something else", expected);

    private static T Expect<T>(object? value) =>
        value is T typed
            ? typed
            : throw new PickleRefusedException(
                value is PickleGlobal global
                    ? $"a use of {global.Name}"
                    : "a call of something that is no known function",
                DataOnly
            );

    private static object? Data(object? value) =>
        value is PickleGlobal or PickledStorageReference or Mark
            ? throw new PickleRefusedException("a function or storage where a value belongs", DataOnly)
            : value;

    private static PickleRefusedException Damaged(string found) => new(found, "an undamaged pickle");

    private sealed class Mark
    {
        public static readonly Mark Instance = new();
    }
}
