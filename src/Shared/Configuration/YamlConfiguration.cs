using System.Text;

namespace Pipeline.Shared.Configuration;

/// <summary>
/// <c>YAML text --ConfigTreeReader--> tree --ConfigOverrides--> tree --ConfigBinder--> record</c>. Keys are property
/// names in camelCase; every fault of a file is reported at once, in one <see cref="ConfigurationException"/>.
/// </summary>
public static class YamlConfiguration
{
    /// <summary>The largest file read, in bytes. Ours take a few hundred; more is a slip or an attack.</summary>
    public const int LargestFile = 1 << 20;

    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Reads a configuration file into a record.</summary>
    /// <param name="path">A YAML file in UTF-8, at most 1 MB.</param>
    /// <param name="overrides">Settings on top of the file, <c>path.to.key=value</c> or <c>list[0].key=value</c>, later
    /// ones winning; the value is YAML.</param>
    /// <exception cref="ConfigurationException">The file cannot be read or is not sound; the message lists every
    /// fault.</exception>
    public static T Load<T>(string path, IReadOnlyList<string>? overrides = null)
        where T : class => Parse<T>(ReadText(path), path, overrides);

    /// <summary>Reads configuration text into a record; see <see cref="Load"/>.</summary>
    /// <param name="yaml">The text, at most 1 MB in UTF-8.</param>
    /// <param name="nameForMessages">What faults call the text, usually its path.</param>
    /// <param name="overrides">Settings on top of the text.</param>
    /// <exception cref="ConfigurationException">The text is not sound; the message lists every fault.</exception>
    public static T Parse<T>(string yaml, string nameForMessages, IReadOnlyList<string>? overrides = null)
        where T : class
    {
        if (Encoding.UTF8.GetByteCount(yaml) > LargestFile)
        {
            throw TooLarge(nameForMessages);
        }
        var faults = new FaultList(nameForMessages);
        ConfigMapping root = AsMapping(ConfigTreeReader.Read(yaml, faults, nameForMessages), nameForMessages);
        new ConfigOverrides(faults, nameForMessages).Apply(root, overrides ?? []);
        object record = new ConfigBinder(faults, nameForMessages).BindRecord(typeof(T), root, path: "");
        faults.ThrowIfAny();
        return (T)record;
    }

    /// <summary>Somebody else's settings, which are bound to no record.</summary>
    /// <param name="path">A YAML file in UTF-8, at most 1 MB.</param>
    /// <exception cref="ConfigurationException">The file cannot be read or is not sound.</exception>
    internal static ConfigMapping ReadForeign(string path)
    {
        var faults = new FaultList(path);
        var root = AsMapping(ConfigTreeReader.Read(ReadText(path), faults, path), path);
        faults.ThrowIfAny();
        return root;
    }

    private static ConfigMapping AsMapping(ConfigNode root, string nameForMessages) =>
        root switch
        {
            ConfigMapping mapping => mapping,
            // An empty file may still be completed by overrides, and says what it lacks otherwise.
            ConfigScalar { IsNull: true } => new ConfigMapping(1, given: null),
            _ => throw Unreadable(nameForMessages, root.Described, "keys and values", "Write it as 'key: value' lines"),
        };

    private static string ReadText(string path)
    {
        try
        {
            // Read with a bound rather than by length: a pipe or a device has none.
            using FileStream file = File.OpenRead(path);
            byte[] bytes = new byte[LargestFile + 1];
            int length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return length > LargestFile
                ? throw TooLarge(path)
                : StrictUtf8.GetString(bytes, 0, length).TrimStart('\uFEFF');
        }
        catch (DecoderFallbackException)
        {
            throw Unreadable(path, "bytes that are not UTF-8", "a text file in UTF-8", "Save the file as UTF-8");
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            throw Unreadable(path, "no such file", "a YAML file", "Check the path");
        }
        catch (Exception fault)
            when (fault is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            string found = $"a path that cannot be read ({fault.Message.TrimEnd('.')})";
            throw Unreadable(path, found, "a YAML file", "Check the path and its permissions");
        }
    }

    private static ConfigurationException TooLarge(string name) =>
        Unreadable(
            name,
            "more than 1 MB",
            "a configuration of at most 1 MB",
            "Check that the path names a configuration"
        );

    private static ConfigurationException Unreadable(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
