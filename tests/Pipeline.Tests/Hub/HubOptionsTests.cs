using Pipeline.Shared;
using Pipeline.Shared.Hub;

namespace Pipeline.Tests.Hub;

public sealed class HubOptionsTests
{
    private static HubOptions From(params (string Name, string Value)[] variables) =>
        HubOptions.FromEnvironment(name => variables.FirstOrDefault(variable => variable.Name == name).Value);

    [Fact]
    public void The_cache_is_where_huggingface_hub_has_it()
    {
        From(("HOME", "/h")).CacheFolder.Should().Be("/h/.cache/huggingface/hub");
        From(("HOME", "/h"), ("XDG_CACHE_HOME", "/x")).CacheFolder.Should().Be("/x/huggingface/hub");
        From(("HOME", "/h"), ("HF_HOME", "~/hf")).CacheFolder.Should().Be("/h/hf/hub");
        From(("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")).CacheFolder.Should().Be("/c");
    }

    [Fact]
    public void The_token_comes_from_the_first_place_that_has_one()
    {
        using var folder = new TempFolder();
        string file = folder.Write("token", "from-file\n");
        folder.Write("other", "from-path");

        From(("HF_HOME", folder.Path)).Token.Should().Be("from-file");
        From(("HF_HOME", folder.Path), ("HF_TOKEN_PATH", folder["other"])).Token.Should().Be("from-path");
        From(("HF_TOKEN_PATH", file), ("HUGGING_FACE_HUB_TOKEN", "b")).Token.Should().Be("b");
        From(("HF_TOKEN", "a"), ("HUGGING_FACE_HUB_TOKEN", "b")).Token.Should().Be("a");
        From(("HF_HOME", folder["none"])).Token.Should().BeNull();
    }

    [Theory]
    [InlineData("1", true)]
    [InlineData("true", true)]
    [InlineData("YES", true)]
    [InlineData("0", false)]
    [InlineData("", false)]
    public void Offline_is_switched_on_by_the_words_of_huggingface_hub(string value, bool isOffline) =>
        From(("HOME", "/h"), ("HF_HUB_OFFLINE", value)).Offline.Should().Be(isOffline);

    [Theory]
    [InlineData("huggingface.co")]
    [InlineData("/etc")]
    [InlineData("ftp://host")]
    [InlineData("https://user:secret@host")]
    public void An_endpoint_that_is_no_plain_web_address_is_refused_without_showing_it(string endpoint)
    {
        var read = () => From(("HOME", "/h"), ("HF_ENDPOINT", endpoint));

        read.Should()
            .Throw<ConfigurationException>()
            .WithMessage("HF_ENDPOINT*")
            .Which.Message.Should()
            .NotContain("secret");
    }

    [Fact]
    public void A_token_is_never_shown()
    {
        var read = () => From(("HOME", "/h"), ("HF_TOKEN", "canary\r\nX-Other: 1"));

        From(("HOME", "/h"), ("HF_TOKEN", "canary")).ToString().Should().NotContain("canary");
        read.Should().Throw<ConfigurationException>().Which.ToString().Should().NotContain("canary");
    }
}
