using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using Pipeline.Evaluate.View;
using Pipeline.Shared;
using Pipeline.Tests.Pipelines;
using Pipeline.View;

namespace Pipeline.Tests.View;

/// <summary>The feature browser over a finished run, asked as the page asks it.</summary>
public sealed class ViewTests : IClassFixture<FinishedRun>, IAsyncLifetime
{
    private const string Hook = "blocks.1.hook_resid_post";

    private readonly FinishedRun run;
    private readonly LatentProbe probe;
    private readonly HttpClient http = new();
    private Microsoft.AspNetCore.Builder.WebApplication? server;

    public ViewTests(FinishedRun run)
    {
        this.run = run;
        probe = LatentProbe.Open(run.Folder);
    }

    public async ValueTask InitializeAsync()
    {
        server = await ViewServer.StartAsync(run.Folder, probe, port: 0, TestContext.Current.CancellationToken);
        http.BaseAddress = new Uri(server.Urls.Single());
    }

    public async ValueTask DisposeAsync()
    {
        await server!.DisposeAsync();
        http.Dispose();
        probe.Dispose();
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("/", "text/html")]
    [InlineData("/view.js", "text/javascript")]
    [InlineData("/view.css", "text/css")]
    [InlineData("/report/", "text/html")]
    public async Task The_page_its_parts_and_the_report_are_there(string path, string type)
    {
        using var response = await http.GetAsync(new Uri(path, UriKind.Relative), Cancel);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        response.Content.Headers.ContentType!.MediaType.Should().Be(type);
        (await response.Content.ReadAsStringAsync(Cancel)).Length.Should().BeGreaterThan(500);
    }

    [Fact]
    public async Task A_text_is_answered_with_the_latents_of_each_token_strongest_first()
    {
        var answer = await Latents(Hook, "The river follows the stone.");

        answer.Should().HaveCountGreaterThan(4);
        answer[0]!["isBos"]!.GetValue<bool>().Should().BeTrue();
        string.Concat(answer.Skip(1).Select(token => token!["text"]!.GetValue<string>()))
            .Should()
            .Be("The river follows the stone.");
        foreach (var token in answer)
        {
            double[] values = [.. token!["latents"]!.AsArray().Select(latent => latent!["value"]!.GetValue<double>())];
            values.Length.Should().BeInRange(1, 4, "k is 4");
            values.Should().BeInDescendingOrder().And.OnlyContain(value => value > 0);
        }
    }

    [Fact]
    public async Task A_text_longer_than_the_models_context_is_cut_off()
    {
        (await Latents(Hook, string.Concat(Enumerable.Repeat("The river follows. ", 100)))).Should().HaveCount(32);
    }

    [Fact]
    public async Task An_SAE_that_is_not_there_is_not_found()
    {
        using var response = await Ask("../../etc", "The river.");
        response.StatusCode.Should().Be(HttpStatusCode.NotFound);
    }

    [Fact]
    public async Task Examples_of_the_evaluation_are_handed_on()
    {
        string name = Uri.EscapeDataString(probe.Saes[0].Name);
        var answer = JsonNode.Parse(
            await http.GetStringAsync(new Uri($"/api/features?hook={Hook}&name={name}", UriKind.Relative), Cancel)
        );
        answer!["features"]!.AsArray().Should().NotBeEmpty();
    }

    [Fact]
    public async Task Another_host_name_is_refused()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/api/saes");
        request.Headers.Host = "rebound.example";
        using var response = await http.SendAsync(request, Cancel);
        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public async Task A_body_that_is_no_question_is_a_bad_request()
    {
        using var body = new StringContent("{", Encoding.UTF8, "application/json");
        using var response = await http.PostAsync(new Uri("/api/latents", UriKind.Relative), body, Cancel);
        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public void A_folder_that_holds_no_run_is_refused()
    {
        using var empty = new TempFolder();
        ((Action)(() => LatentProbe.Open(empty.Path))).Should().Throw<PipelineException>().WithMessage("*run.json*");
    }

    private Task<HttpResponseMessage> Ask(string hook, string text) =>
        http.PostAsJsonAsync(
            new Uri("/api/latents", UriKind.Relative),
            new
            {
                hook,
                name = probe.Saes[0].Name,
                text,
            },
            Cancel
        );

    private async Task<JsonArray> Latents(string hook, string text)
    {
        using var response = await Ask(hook, text);
        string body = await response.Content.ReadAsStringAsync(Cancel);
        response.StatusCode.Should().Be(HttpStatusCode.OK, body);
        return JsonNode.Parse(body)!.AsArray();
    }
}

/// <summary>The tiny pipeline, run to its end.</summary>
public sealed class FinishedRun : IDisposable
{
    private readonly TinyRun tiny = new();
    private readonly TempFolder folder = new();

    public FinishedRun()
    {
        var result = SaeProcess.Run("run", tiny.Pipeline, "--out", Folder);
        result.ExitCode.Should().Be(0, result.Error);
    }

    public string Folder => Path.Combine(folder.Path, "run");

    public void Dispose()
    {
        tiny.Dispose();
        folder.Dispose();
    }
}
