using Pipeline.Evaluate;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Evaluate;

public sealed class EvaluationPassTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Nothing_begun_is_one_pass_from_the_start_of_which_nothing_needs_to_be_said()
    {
        var pass = EvaluationPass.Of([Folder("a"), Folder("b")]).Should().ContainSingle().Subject;

        Names(pass).Should().Equal("a", "b");
        pass.From.Should().BeNull();
        pass.Note.Should().BeNull();
    }

    [Fact]
    public void What_one_checkpoint_knows_goes_on_from_it_without_a_word()
    {
        Checkpoint("b", "a", "b");

        var pass = EvaluationPass.Of([Folder("a"), Folder("b")]).Should().ContainSingle().Subject;

        Names(pass).Should().Equal("a", "b");
        pass.From!.Step.Should().Be(256);
        pass.Note.Should().BeNull();
    }

    /// <summary>Each place a further SAE may have in the file.</summary>
    [Theory]
    [InlineData("new,a,b")]
    [InlineData("a,new,b")]
    [InlineData("a,b,new")]
    [InlineData("b,a")] // the holder is not the last of the file any more
    public void What_a_checkpoint_knows_goes_on_wherever_in_the_file_others_have_come(string pending)
    {
        Checkpoint("b", "a", "b");
        string[] names = pending.Split(',');

        var passes = EvaluationPass.Of([.. names.Select(name => Folder(name))]);

        Names(passes[0]).Should().Equal(["a", "b"], "the folder with the checkpoint is sealed last");
        passes[0].From!.Step.Should().Be(256);
        passes.Skip(1).SelectMany(Names).Should().Equal(names.Except(["a", "b"]));
        passes.Skip(1).Should().OnlyContain(pass => pass.From == null && pass.Note == null);
        (passes[0].Note is not null).Should().Be(passes.Count > 1);
    }

    [Fact]
    public void A_changed_SAE_that_held_the_checkpoint_hands_it_to_those_that_are_as_they_were()
    {
        Checkpoint("c", "a", "b", "c");

        var passes = EvaluationPass.Of([Folder("a"), Folder("b"), Folder("c", setting: 2)]);

        passes.Should().HaveCount(2);
        Names(passes[0]).Should().Equal("a", "b");
        Names(passes[1]).Should().Equal("c");
        passes[0].From!.Path.Should().StartWith(folder["evaluate", "hook", "c"]);
        passes[0].Note.Should().ContainAll("hook/a, hook/b", "256 tokens", "go on from there");
    }

    [Fact]
    public void Their_own_checkpoint_is_taken_before_one_in_the_folder_of_a_changed_SAE()
    {
        Checkpoint("c", "a", "b", "c");
        Checkpoint("b", "a", "b");

        var passes = EvaluationPass.Of([Folder("c", setting: 2), Folder("a"), Folder("b")]);

        Names(passes[0]).Should().Equal("a", "b");
        passes[0].From!.Path.Should().StartWith(folder["evaluate", "hook", "b"]);
    }

    [Fact]
    public void Work_that_no_checkpoint_knows_is_named_and_begun_again()
    {
        Folder("a").Begin();
        Checkpoint("b", "another", "b"); // of SAEs of which one is finished

        var passes = EvaluationPass.Of([Folder("a"), Folder("b"), Folder("c")]);

        passes.Should().HaveCount(2);
        Names(passes[0]).Should().Equal("b");
        Names(passes[1]).Should().Equal("a", "c");
        passes[1].From.Should().BeNull();
        passes[1].Note.Should().Contain("hook/a: begun before").And.NotContain("hook/c");
    }

    /// <summary>What a kill leaves in the middle of deleting it, or damage.</summary>
    [Fact]
    public void Half_a_checkpoint_in_the_folder_of_a_changed_SAE_is_none_and_in_another_an_error()
    {
        Checkpoint("b", "a", "b");
        string file = Directory.GetFiles(folder["evaluate", "hook", "b"], "*.safetensors", SearchOption.AllDirectories)[
            0
        ];
        File.Delete(file);

        var changed = EvaluationPass.Of([Folder("a"), Folder("b", setting: 2)]).Should().ContainSingle().Subject;
        var damaged = () => EvaluationPass.Of([Folder("a"), Folder("b")]);

        changed.From.Should().BeNull();
        changed.Note.Should().Contain("hook/a: begun before");
        damaged.Should().Throw<CorruptArtifactException>().WithMessage($"*{file}*");
    }

    private static IEnumerable<string> Names(EvaluationPass pass) =>
        pass.Folders.Select(sae => Path.GetFileName(sae.Path));

    private StageFolder Folder(string name, int setting = 1) =>
        new(folder["evaluate", "hook", name], "evaluate", new() { ["setting"] = setting, ["sae"] = name }, []);

    /// <summary>An interrupted pass over some SAEs.</summary>
    private void Checkpoint(string holder, params string[] known)
    {
        foreach (string name in known)
        {
            Folder(name).Begin();
        }
        Folder(holder).Checkpoints.Save(256, _ => { }, EvaluationPass.Words(known.Select(name => Folder(name))));
    }
}
