using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
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
    [InlineData("/latent.js", "text/javascript")]
    [InlineData("/latent.css", "text/css")]
    [InlineData("/report.css", "text/css")]
    [InlineData("/report/", "text/html")]
    [InlineData("/report/features/blocks.1.hook_resid_post/SAE/", "text/html")]
    [InlineData("/report/features/blocks.1.hook_resid_post/SAE/columns.js", "text/javascript")]
    public async Task The_page_its_parts_and_the_report_are_there(string path, string type)
    {
        using var response = await http.GetAsync(Relative(path), Cancel);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        response.Content.Headers.ContentType!.MediaType.Should().Be(type);
        response.Headers.GetValues("Content-Security-Policy").Single().Should().StartWith("default-src 'none'; ");
        response.Headers.GetValues("X-Content-Type-Options").Should().Equal("nosniff");
        (await response.Content.ReadAsStringAsync(Cancel)).Length.Should().BeGreaterThan(500);
    }

    [Theory]
    [InlineData("/report/../run.json")]
    [InlineData("/report/%2e%2e/run.json")]
    [InlineData("/report/..%2frun.json")]
    [InlineData("/report/%2e%2e%2frun.json")]
    [InlineData("/report/..\\run.json")]
    [InlineData("/report/features/../../run.json")]
    [InlineData("/report/features/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd")]
    [InlineData("/report//etc/passwd")]
    [InlineData("/report/manifest.json")]
    [InlineData("/report/.hidden.js")]
    public async Task What_is_no_page_of_the_report_is_not_served(string path)
    {
        await File.WriteAllTextAsync(Path.Combine(run.Folder, "report", ".hidden.js"), "hidden", Cancel);

        // As it is: HttpClient would put the dots right first.
        (await RawStatus(path))
            .Should()
            .BeOneOf(400, 404);
    }

    [Fact]
    public async Task Each_SAE_is_named_with_its_browsers_page()
    {
        var about = JsonNode.Parse(await http.GetStringAsync(new Uri("/api/saes", UriKind.Relative), Cancel))!;

        foreach (var sae in about["saes"]!.AsArray())
        {
            using var page = await http.GetAsync(
                new Uri("/" + sae!["page"]!.GetValue<string>(), UriKind.Relative),
                Cancel
            );
            page.StatusCode.Should().Be(HttpStatusCode.OK);
        }
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
    public void Of_a_run_without_BOS_none_is_put_before_the_text()
    {
        string path = Path.Combine(run.Folder, "run.json");
        string asItWas = File.ReadAllText(path);
        var json = JsonNode.Parse(asItWas)!;
        json["pipeline"]!["harvest"]!["bos"] = "none";
        try
        {
            File.WriteAllText(path, json.ToJsonString());
            using var without = LatentProbe.Open(run.Folder);

            var tokens = without.Probe(without.Saes[0], "The river");

            string.Concat(tokens.Select(token => token.Text)).Should().Be("The river");
            tokens.Should().OnlyContain(token => !token.IsBos);
        }
        finally
        {
            File.WriteAllText(path, asItWas);
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
    public async Task What_the_evaluation_says_of_latents_is_handed_on()
    {
        string query = $"hook={Hook}&name={Uri.EscapeDataString(probe.Saes[0].Name)}";
        var index = JsonNode.Parse(
            await http.GetStringAsync(new Uri($"/api/features?{query}", UriKind.Relative), Cancel)
        )!;
        index["latents"]!.GetValue<int>().Should().Be(64);
        index["columns"]!["block"]!.AsArray().Select(b => b!.GetValue<int>()).Should().Contain(0);

        var block = JsonNode.Parse(
            await http.GetStringAsync(new Uri($"/api/features/block?{query}&number=0", UriKind.Relative), Cancel)
        )!;
        block["latents"]!.AsArray().Should().NotBeEmpty();
    }

    [Theory]
    [InlineData("api/features?hook=../..&name=etc")]
    [InlineData("api/features/block?hook=blocks.1.hook_resid_post&name=SAE&number=99")]
    [InlineData("api/features/block?hook=blocks.1.hook_resid_post&name=SAE&number=-1")]
    public async Task Latents_that_are_not_there_are_not_found(string path)
    {
        using var response = await http.GetAsync(Relative("/" + path), Cancel);
        response.StatusCode.Should().Be(HttpStatusCode.NotFound);
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

    /// <summary>An address in which SAE stands for the first one's name.</summary>
    private Uri Relative(string path) =>
        new(path.Replace("SAE", probe.Saes[0].Name, StringComparison.Ordinal), UriKind.Relative);

    private async Task<int> RawStatus(string path)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, http.BaseAddress!.Port, Cancel);
        await using var stream = client.GetStream();
        await stream.WriteAsync(
            Encoding.ASCII.GetBytes($"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"),
            Cancel
        );
        using var reader = new StreamReader(stream);
        string line = (await reader.ReadLineAsync(Cancel))!;
        return int.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture);
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
