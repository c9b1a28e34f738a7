using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Tokens;

namespace Pipeline.Tests.Configuration;

public sealed class YamlConfigurationTests
{
    [Fact]
    public void Reads_the_quickstart_with_defaults_for_what_it_leaves_out()
    {
        PipelineConfig config = Yaml.Pipeline(Yaml.Quickstart);

        config.Name.Should().Be("quickstart");
        config.Seed.Should().Be(42);
        config.Threads.Should().BeNull();
        config.Harvest.Hooks.Should().Equal("blocks.2.hook_resid_post", "blocks.mid.hook_resid_post");
        config.Harvest.Tokens.Value.Should().Be(200_000);
        config.Harvest.Context.Should().Be(256);
        config.Harvest.Bos.Should().BeNull();
        config.Harvest.ShardTokens.Value.Should().Be(64_000);
        config.Train.Saes.Should().HaveCount(2);
        config.Train.Saes[1].LearningRate.Should().Be(1e-3);
        config.Train.Saes[1].AuxK.Should().Be(64);
        config.Report.Features.Should().Be(new FeatureCount(64));
    }

    [Fact]
    public void Reads_a_file_and_a_byte_order_mark_does_no_harm()
    {
        string path = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid()}.yaml");
        try
        {
            using (var file = new StreamWriter(path, append: false, new System.Text.UTF8Encoding(true)))
            {
                file.Write(Yaml.Quickstart);
            }
            YamlConfiguration.Load<PipelineConfig>(path, ["seed=7"]).Seed.Should().Be(7);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_section_left_empty_takes_its_defaults() =>
        Yaml.With("evaluate=").Evaluate.Should().Be(new EvaluateConfig());

    [Fact]
    public void A_nullable_value_can_be_set_back_to_null() =>
        Yaml.With("train.saes[1].auxK=null").Train.Saes[1].AuxK.Should().BeNull();

    [Fact]
    public void A_number_in_a_text_field_is_text() => Yaml.With("model=2024").Model.Should().Be("2024");

    [Theory]
    [InlineData("each-document")]
    [InlineData("each_document")]
    [InlineData("EachDocument")]
    [InlineData("eachdocument")]
    public void Enum_values_are_read_in_every_usual_spelling(string spelling) =>
        Yaml.With($"harvest.bos={spelling}").Harvest.Bos.Should().Be(BosPolicy.EachDocument);

    [Fact]
    public void Overrides_replace_append_and_create_and_the_last_wins()
    {
        PipelineConfig config = Yaml.With(
            "train.batch=512",
            "train.batch=256",
            "train.saes[0].k=16",
            "train.saes.1.k=8",
            "train.saes[2]={architecture: topk, k: 4}",
            "harvest.hooks=[a]",
            "report.features=3"
        );

        config.Train.Batch.Should().Be(256);
        config.Train.Saes.Select(sae => sae.K).Should().Equal(16, 8, 4);
        config.Harvest.Hooks.Should().Equal("a");
        config.Report.Features.Should().Be(new FeatureCount(3));
    }

    [Theory]
    [InlineData("all", "all")]
    [InlineData("0", "0")]
    [InlineData("16_384", "16384")]
    [InlineData("2k", "2000")]
    public void A_number_of_latents_may_be_all(string written, string expected)
    {
        var report = Yaml.With($"report.features={written}").Report;

        report.Features.ToString().Should().Be(expected);
        ConfigurationJson.ToJson(report)["features"]!.ToString().Should().Be(expected);
    }

    [Theory]
    [InlineData("-1")]
    [InlineData("most")]
    [InlineData("1.5")]
    [InlineData("3000000000")]
    public void A_number_of_latents_is_whole_and_not_below_zero(string written) =>
        Yaml.RefusalWith($"report.features={written}")
            .Should()
            .Contain(
                $"report.features (--set report.features={written}): found '{written}', expected a number of latents"
            );

    [Fact]
    public void Overrides_alone_can_make_a_configuration()
    {
        PipelineConfig config = Yaml.Pipeline(
            "",
            "name=a",
            "model=m",
            "text=t=u",
            "harvest.hooks[0]=h",
            "harvest.tokens=1k",
            "train.tokens=1k",
            "train.saes[0].architecture=topk",
            "train.saes[0].k=1"
        );

        config.Text.Should().Be("t=u");
        config.Train.Saes.Should().ContainSingle();
    }

    [Fact]
    public void Reports_every_fault_at_once_with_its_line()
    {
        string message = Yaml.Refusal(
            """
            name: ../up
            modle: x
            text: t
            harvest:
              hooks: blocks.2
              tokens: many
              heldOut: 1.0
            train:
              tokens: 1k
              batch: 0
              batch: 3
              saes:
                - {architecture: gate, k: 99999999999}
                -
            """
        );

        message.Should().StartWith("a.yaml: 11 faults.");
        message.Should().Contain("a.yaml: name (line 1): found '../up', expected a name of at most 100");
        message.Should().Contain("a.yaml: model: found nothing, expected text. Add the key model.");
        message
            .Should()
            .Contain("a.yaml: modle (line 2): found the unknown key 'modle', expected one of name, seed, model");
        message.Should().Contain("Did you mean 'model'? Rename or remove it.");
        message
            .Should()
            .Contain("harvest.hooks (line 5): found 'blocks.2', expected a list. Put it in brackets: [blocks.2].");
        message.Should().Contain("harvest.tokens (line 6): found 'many', expected a count of tokens such as 200k");
        message.Should().Contain("harvest.heldOut (line 7): found '1.0', expected at least 0 and less than 1.");
        message.Should().Contain("train.batch (line 10): found '0', expected at least 1.");
        message.Should().Contain("(line 11): found the key 'batch' again (first on line 10), expected each key once.");
        message
            .Should()
            .Contain("train.saes[0].architecture (line 13): found 'gate', expected one of topk, batchtopk,");
        message
            .Should()
            .Contain("train.saes[0].k (line 13): found '99999999999', expected a whole number from -2147483648 to");
        message
            .Should()
            .Contain("train.saes[1] (line 14): found nothing, expected a section with the keys architecture.");
    }

    [Fact]
    public void A_missing_text_says_that_an_option_can_give_it() =>
        Yaml.Refusal("name: a")
            .Should()
            .Contain("a.yaml: text: found nothing, expected text. Give it in the file or with --set text=PATH.");

    [Theory]
    [InlineData("harvest.held_out=0.2", "Did you mean 'heldOut'?")]
    [InlineData("train.bacth=3", "Did you mean 'batch'?")]
    [InlineData("train.zebra=3", "Remove it.")]
    public void Unknown_keys_suggest_the_nearest(string setting, string remedy) =>
        Yaml.RefusalWith(setting).Should().Contain($"(--set {setting})").And.Contain(remedy);

    [Theory]
    [InlineData("seed=-1")]
    [InlineData("seed=18446744073709551616")]
    [InlineData("train.batch=2147483648")]
    [InlineData("train.batch=\"512\"")]
    [InlineData("train.batch=2k")]
    [InlineData("train.batch=1.0")]
    [InlineData("train.batch=")]
    [InlineData("train.batch=[1]")]
    [InlineData("train.batch={a: 1}")]
    [InlineData("train.tokens=99999999999999999999G")]
    [InlineData("train.tokens=-1")]
    [InlineData("train.tokens=0")]
    [InlineData("harvest.separator=yes")]
    [InlineData("harvest.separator=\"true\"")]
    [InlineData("harvest.heldOut=1e999")]
    [InlineData("harvest.heldOut=.nan")]
    [InlineData("harvest.hooks=[]")]
    [InlineData("harvest.hooks=[a, b, a]")]
    [InlineData("harvest.hooks={a: b}")]
    [InlineData("harvest.dtype=int4")]
    [InlineData("harvest.dtype=0")]
    [InlineData("harvest=3")]
    [InlineData("name=..")]
    [InlineData("name=' '")]
    [InlineData("name=a/b")]
    [InlineData("train.saes[1]=null")]
    [InlineData("train.saes[1].learningRate=0")]
    [InlineData("train.saes[1].k=4097")]
    [InlineData("train.saes[1].warmup=0.9")]
    [InlineData("train.shuffleBlock=70000")]
    [InlineData("text=*anchor")]
    [InlineData("text=!!str x")]
    [InlineData("text=[")]
    public void Refuses_with_one_fault_that_names_the_option(string setting) =>
        Yaml.RefusalWith(setting).Should().Contain(setting.Split('=')[0].Split('[')[0]).And.NotContain("faults");

    [Theory]
    [InlineData("train.batch")]
    [InlineData("=3")]
    [InlineData("train..batch=3")]
    [InlineData("train.saes[x].k=3")]
    [InlineData("train.saes[0.k=3")]
    [InlineData("train.saes[7].k=3")]
    [InlineData("train.saes[99999999999].k=3")]
    [InlineData("train.saes.topk.k=3")]
    [InlineData("name.first=3")]
    public void Refuses_a_setting_whose_path_leads_nowhere(string setting) =>
        Yaml.RefusalWith(setting).Should().Contain($"--set {setting}").And.NotContain("faults");

    [Fact]
    public void A_stored_type_that_does_not_exist_is_refused_with_those_that_do() =>
        Yaml.RefusalWith("harvest.dtype=int4").Should().Contain("expected one of float32, float16, bfloat16, int8.");

    [Theory]
    [InlineData("[1, 2]", "keys and values")]
    [InlineData("just text", "keys and values")]
    [InlineData("name: [a", "not YAML")]
    [InlineData("name: a\n\tmodel: b", "not YAML")]
    [InlineData("hooks: - a", "not YAML")]
    [InlineData("? [a]\n: b", "as a key")]
    [InlineData("name: a\n---\nname: b", "a second document")]
    [InlineData("a: &x [1]\nb: *x", "the alias '*x'")]
    public void Refuses_text_that_is_no_configuration(string yaml, string reason) =>
        Yaml.Refusal(yaml).Should().Contain(reason);

    [Fact]
    public void Invalid_yaml_is_reported_with_its_line() =>
        Yaml.Refusal("name: a\nmodel: b\ntext: \"c\nharvest: [").Should().Contain("a.yaml (line ");

    [Fact]
    public void An_alias_bomb_is_refused_without_being_expanded()
    {
        string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
        for (int i = 1; i < 30; i++)
        {
            bomb += $"a{i}: &a{i} [{string.Join(", ", Enumerable.Repeat($"*a{i - 1}", 10))}]\n";
        }

        Yaml.Refusal(bomb).Should().Contain("Aliases are not read").And.Contain("more.");
    }

    [Theory]
    [InlineData('[')]
    [InlineData('{')]
    public void Deep_nesting_is_refused(char bracket) =>
        Yaml.Refusal("name: " + new string(bracket, 100_000)).Should().Contain("nested more than 64 deep");

    [Fact]
    public void A_file_above_one_megabyte_is_refused() =>
        Yaml.Refusal("name: " + new string('a', YamlConfiguration.LargestFile)).Should().Contain("more than 1 MB");

    [Fact]
    public void A_message_stays_short_whatever_the_file_holds() =>
        Yaml.Refusal(string.Concat(Enumerable.Range(0, 50_000).Select(i => $"k{i}: {i}\n")))
            .Length.Should()
            .BeLessThan(50_000);

    [Theory]
    [InlineData("- ")]
    [InlineData("? ")]
    [InlineData("a: ")]
    [InlineData("a: b\n")]
    [InlineData("[], ")]
    [InlineData("&a ")]
    [InlineData("! ")]
    [InlineData("'")]
    [InlineData("\"\\x")]
    [InlineData("# \n")]
    [InlineData("---\n")]
    [InlineData("%A\n")]
    [InlineData("| \n ")]
    [InlineData(" ")]
    [InlineData("\n")]
    [InlineData("9")]
    public void A_megabyte_of_anything_is_refused_in_seconds(string pattern)
    {
        string filler = string.Concat(
            Enumerable.Repeat(pattern, (YamlConfiguration.LargestFile - 100) / pattern.Length)
        );
        var clock = System.Diagnostics.Stopwatch.StartNew();

        foreach (string prefix in (string[])["", "x: [", "train: {batch: ", "train:\n  batch: "])
        {
            Yaml.Refusal(prefix + filler).Length.Should().BeLessThan(100_000);
        }

        clock.Elapsed.Should().BeLessThan(TimeSpan.FromSeconds(60));
    }

    [Theory]
    [InlineData("")]
    [InlineData("no/such/file.yaml")]
    [InlineData("/")]
    public void A_file_that_cannot_be_read_is_a_configuration_fault(string path) =>
        Yaml.Refusal(() => YamlConfiguration.Load<PipelineConfig>(path)).Should().Contain("expected a YAML file");

    [Fact]
    public void Bytes_that_are_not_text_are_refused()
    {
        string path = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid()}.yaml");
        try
        {
            using (FileStream file = File.Create(path))
            {
                file.Write([0x6e, 0xff, 0xfe, 0x00]);
            }
            Yaml.Refusal(() => YamlConfiguration.Load<PipelineConfig>(path)).Should().Contain("not UTF-8");
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Mutants_of_a_sound_file_are_read_or_refused_and_nothing_else()
    {
        const string alphabet = "\n\t :-[]{},&*#!|>'\"%@`?~.=0aZ\u0000\u0085\u2028\ufeff\ud800é";
        ulong state = 20_240_601;
        int refused = 0;
        for (int mutant = 0; mutant < 2_000; mutant++)
        {
            string yaml = Yaml.Quickstart;
            for (int edits = Next(6); edits >= 0; edits--)
            {
                int at = Next(yaml.Length);
                int length = Math.Min(Next(12), yaml.Length - at);
                yaml = Next(4) switch
                {
                    0 => yaml.Remove(at, length),
                    1 => yaml.Insert(at, new string(alphabet[Next(alphabet.Length)], 1 + Next(3))),
                    2 => yaml.Insert(Next(yaml.Length), yaml.Substring(at, length)),
                    _ => yaml.Remove(at, 1).Insert(at, alphabet[Next(alphabet.Length)].ToString()),
                };
            }
            try
            {
                Yaml.Pipeline(yaml).Harvest.Hooks.Should().NotBeEmpty();
            }
            catch (ConfigurationException)
            {
                refused++;
            }
        }

        refused.Should().BeInRange(200, 1_990);

        // xorshift64: reproducible on every machine.
        int Next(int bound)
        {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            return (int)(state % (ulong)bound);
        }
    }
}
