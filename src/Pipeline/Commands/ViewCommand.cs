using System.CommandLine;
using System.Net.Sockets;
using Pipeline.Evaluate.View;
using Pipeline.Shared;
using Pipeline.View;

namespace Pipeline.Commands;

/// <summary><c>sae view DIR</c>: the feature browser on this machine.</summary>
internal static class ViewCommand
{
    public static Command Create()
    {
        var folder = RunFolder.Argument();
        var port = new Option<int>("--port")
        {
            Description = "The port on 127.0.0.1; 0 lets the system choose. Default 8321.",
            DefaultValueFactory = _ => 8321,
        };
        var command = new Command("view", "Serves the feature browser of a run on 127.0.0.1, until Ctrl-C.");
        command.Arguments.Add(folder);
        command.Options.Add(port);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    Serve(parsed.GetValue(folder)!, parsed.GetValue(port), cancel).GetAwaiter().GetResult();
                    return 0;
                }
            )
        );
        return command;
    }

    private static async Task Serve(string folder, int port, CancellationToken cancel)
    {
        if (port is < 0 or > ushort.MaxValue)
        {
            throw new ConfigurationException(
                new Fault("--port", $"{port}", $"0 to {ushort.MaxValue}", "Choose another").ToString()
            );
        }
        using var probe = LatentProbe.Open(folder);
        try
        {
            await using var app = await ViewServer.StartAsync(folder, probe, port, cancel).ConfigureAwait(false);
            Console.WriteLine($"{folder}: {app.Urls.First()} (Ctrl-C to stop)");
            await Task.Delay(Timeout.Infinite, cancel)
                .ContinueWith(_ => { }, TaskScheduler.Default)
                .ConfigureAwait(false);
            await app.StopAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (IOException e)
            when (e.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException or SocketException)
        {
            throw new ConfigurationException(
                new Fault("--port", $"{port}, which is in use", "a free port", "Choose another, or 0").ToString(),
                e
            );
        }
    }
}
