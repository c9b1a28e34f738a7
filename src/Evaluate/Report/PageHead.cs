namespace Pipeline.Evaluate.Report;

/// <summary>How every page begins. Its policy forbids whatever is not named: nothing is fetched, no form is sent.</summary>
internal static class PageHead
{
    /// <summary>All up to the body.</summary>
    /// <param name="title">Of the page.</param>
    /// <param name="admitted">The policy's directives for the page's scripts and styles.</param>
    /// <param name="style">The style sheet.</param>
    public static Html Of(string title, string admitted, string style) =>
        Html.Of(
            $"""
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; {new Html(
                admitted
            )}; base-uri 'none'; form-action 'none'">
            <title>{title}</title>
            <style>{new Html(style)}</style>
            </head>
            """
        );
}
