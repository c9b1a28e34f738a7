using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Pipeline.Shared.Configuration;

/// <summary>
/// YAML text to a tree of <see cref="ConfigNode"/>: one document, no aliases, bounded depth. It goes through the
/// parser's events rather than YamlDotNet's own tree, so that nothing is expanded or recursed into before it is
/// checked. </summary>
internal sealed class ConfigTreeReader
{
    private const int DeepestNesting = 64;

    private readonly Parser parser;
    private readonly FaultList faults;
    private readonly string source;
    private readonly string? given;

    private ConfigTreeReader(string yaml, FaultList faults, string source, string? given)
    {
        parser = new Parser(new StringReader(yaml));
        this.faults = faults;
        this.source = source;
        this.given = given;
    }

    /// <summary>The text's tree; an empty text is a null value. Faults that leave a tree are added to the list. Where
    /// the text is the value of an override, <paramref name="given"/> is that override.</summary>
    /// <exception cref="ConfigurationException">The text is not YAML, or nested too deeply.</exception>
    public static ConfigNode Read(string yaml, FaultList faults, string source, string? given = null)
    {
        var reader = new ConfigTreeReader(yaml, faults, source, given);
        try
        {
            return reader.ReadStream();
        }
        // Whatever a parser of foreign text throws is a fault of the text; not all of YamlDotNet's are YamlExceptions.
        catch (Exception fault) when (fault is not ConfigurationException)
        {
            long line = (fault as YamlException)?.Start.Line ?? reader.parser.Current?.End.Line ?? 1;
            reader.AddFault(
                line,
                $"text that is not YAML ({Spelling.Shown(fault.Message)})",
                "YAML",
                "Check indentation (spaces, no tabs), brackets and quotes on that line and the one above"
            );
            faults.ThrowIfAny();
            throw;
        }
    }

    private ConfigNode ReadStream()
    {
        Next();
        if (Next() is StreamEnd)
        {
            return new ConfigScalar("", isQuoted: false, 1, given);
        }
        ConfigNode root = ReadNode(Next(), depth: 1, keyLine: null);
        Next();
        if (Next() is not StreamEnd)
        {
            AddFault(
                parser.Current!.Start.Line,
                "a second document",
                "a single one",
                "Remove the '---' and what follows it"
            );
        }
        return root;
    }

    private ConfigNode ReadNode(ParsingEvent start, int depth, long? keyLine)
    {
        long line = keyLine ?? start.Start.Line;
        if (start is NodeEvent { Tag: { IsEmpty: false, IsNonSpecific: false } tag })
        {
            AddFault(line, $"the tag '{Spelling.Shown(tag.Value)}'", "a plain value", "Remove the tag");
        }
        return start switch
        {
            Scalar scalar => new ConfigScalar(scalar.Value, scalar.Style is not ScalarStyle.Plain, line, given),
            SequenceStart => ReadSequence(line, depth),
            MappingStart => ReadMapping(line, depth),
            AnchorAlias alias => RefuseAlias(alias, line),
            _ => throw new YamlException(start.Start, start.End, "A value was expected."),
        };
    }

    private ConfigSequence ReadSequence(long line, int depth)
    {
        RefuseTooDeep(line, depth);
        var sequence = new ConfigSequence(line, given);
        while (Next() is var item and not SequenceEnd)
        {
            sequence.Items.Add(ReadNode(item, depth + 1, keyLine: null));
        }
        return sequence;
    }

    private ConfigMapping ReadMapping(long line, int depth)
    {
        RefuseTooDeep(line, depth);
        var mapping = new ConfigMapping(line, given);
        while (Next() is var start and not MappingEnd)
        {
            long keyLine = start.Start.Line;
            ConfigNode key = ReadNode(start, depth + 1, keyLine);
            ConfigNode value = ReadNode(Next(), depth + 1, keyLine);
            if (key is not ConfigScalar name)
            {
                AddFault(keyLine, $"{key.Described} as a key", "a name", "Write the key as a single word");
            }
            else if (!mapping.Values.TryAdd(name.Text, value))
            {
                AddFault(
                    keyLine,
                    $"the key '{Spelling.Shown(name.Text)}' again (first on {mapping.Values[name.Text].Origin})",
                    "each key once",
                    "Remove one of the two"
                );
            }
        }
        return mapping;
    }

    private ConfigRefused RefuseAlias(AnchorAlias alias, long line)
    {
        AddFault(
            line,
            $"the alias '*{Spelling.Shown(alias.Value.Value)}'",
            "a value",
            "Aliases are not read: write the value out, in quotes if it begins with '*'"
        );
        return new ConfigRefused(line, given);
    }

    private void RefuseTooDeep(long line, int depth)
    {
        if (depth > DeepestNesting)
        {
            AddFault(line, "brackets or sections nested more than 64 deep", "at most 64", "Flatten the file");
            faults.ThrowIfAny();
        }
    }

    private ParsingEvent Next() =>
        parser.MoveNext() ? parser.Current! : throw new YamlException("The text ends in the middle of a value.");

    private void AddFault(long line, string found, string expected, string remedy) =>
        faults.Add(
            new Fault(
                given is null
                    ? string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{source} (line {line})")
                    : $"{source} ({given})",
                found,
                expected,
                remedy
            )
        );
}
