using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

public class WikitextTests
{
    [Theory]
    [InlineData("'''Bold''' and ''italic'' and '''''both''''' of Anna's", "Bold and italic and both of Anna's")]
    [InlineData("[[dog]]s, [[Cat (animal)|cats]], [[:Category:Dogs|all dogs]]", "dogs, cats, all dogs")]
    [InlineData("a [[File:x.png|thumb|A [[dog]] at [http://x.org here]]] b", "a b")]
    [InlineData("text[[Category:Dogs]]\n[[de:Hund]]", "text")]
    [InlineData("[http://x.org a page], c [http://x.org]; [//x.org b]", "a page, c; b")]
    [InlineData("list[1] and [sic]", "list[1] and [sic]")]
    [InlineData("a {{b|{{c}}|[[d]]}} e{{f}}.", "a e.")]
    [InlineData("a {{{1|b}}} c {{{{{2}}}}} d", "a c d")]
    [InlineData("Rome ({{lang|it|Roma}}) is", "Rome is")]
    [InlineData("Rome ({{lang|it|Roma}}; founded {{circa}}) is", "Rome (founded) is")]
    [InlineData("f() and ( ) stay", "f() and ( ) stay")]
    [InlineData("a<ref name=\"x\">note [[b]]</ref> b<ref name=x /> c<br/>d", "a b c\nd")]
    [InlineData("a<!-- b {{ --> c", "a c")]
    [InlineData("<nowiki>[[not a link]] {{x}}</nowiki> &amp; &nbsp;y", "[[not a link]] {{x}} &  y")]
    [InlineData("x < 5 and y > 3 <small>small</small> <unknown>", "x < 5 and y > 3 small <unknown>")]
    [InlineData("E = <math>mc^2</math> holds", "E = holds")]
    [InlineData("a\n{| class=x\n|-\n| b {{c}}\n{| nested\n|}\n|}\nd", "a\n\nd")]
    [InlineData("{{Infobox\n| a = {|\n| x\n|}\n}}\ntext", "text")]
    [InlineData("{{Infobox\n| a = 1\n|}}\ntext", "text")]
    [InlineData("* one\n** two\n# three\n: four", "one\ntwo\nthree\nfour")]
    [InlineData("a\n\n\n\nb\n----\n__NOTOC__c", "a\n\nb\n\nc")]
    [InlineData("a\n\n== Text ==\nb\n\n== References ==\n{{reflist}}\n\n=== Sub ===\n", "a\n\nText\nb")]
    [InlineData("== A ==\n=== B ===\nb\n== C ==", "A\nB\nb")]
    [InlineData("#REDIRECT [[x]]", "REDIRECT x")]
    [InlineData("", "")]
    public void Markup_becomes_plain_text(string markup, string plain) => Plain(markup).Should().Be(plain);

    [Theory]
    [InlineData("a {{ b", "a {{ b")]
    [InlineData("a }} b ]] c |} d", "a }} b ]] c |} d")]
    [InlineData("a [[ b\n\n{{c}} d", "a [[ b\n\nd")]
    [InlineData("a [http://x b\nc] d", "a [http://x b\nc] d")]
    [InlineData("{{a [[b}} c]] d", "c]] d")]
    [InlineData("a <ref>b", "a b")]
    [InlineData("a <b", "a <b")]
    [InlineData("{|\na", "{|\na")]
    public void What_never_closes_is_text(string markup, string plain) => Plain(markup).Should().Be(plain);

    /// <summary>A quadratic reader would take hours: no stopwatch decides this, the time a test run has does.</summary>
    [Theory]
    [InlineData("{{")]
    [InlineData("{{{")]
    [InlineData("}}")]
    [InlineData("[[")]
    [InlineData("]]")]
    [InlineData("[[a|")]
    [InlineData("[http://x ")]
    [InlineData("<ref>")]
    [InlineData("<ref")]
    [InlineData("<a")]
    [InlineData("</references><ref>")]
    [InlineData("{|\n")]
    [InlineData("{|\n[[")]
    [InlineData("|}\n")]
    [InlineData("'")]
    [InlineData("=")]
    [InlineData("\n==a==")]
    [InlineData("({{a}} ")]
    [InlineData("( ")]
    [InlineData("{{a}};")]
    [InlineData("<!--")]
    [InlineData("__A")]
    [InlineData(" :")]
    [InlineData("&#38;")]
    public void Ten_megabytes_of_any_construct_are_read(string construct)
    {
        string markup = string.Concat(Enumerable.Repeat(construct, 10_000_000 / construct.Length));

        Plain(markup).Length.Should().BeLessThanOrEqualTo(markup.Length);
        Plain(markup + string.Concat(Enumerable.Repeat("]]}}", 1_000_000))).Length.Should().BeLessThan(15_000_000);
    }

    private static string Plain(string markup) =>
        new Wikitext(new HashSet<string> { "file", "category" }).ToPlain(markup);
}
