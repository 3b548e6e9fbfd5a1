"""Samples as a C# program with HttpClient: Program.cs of a console project, .NET 6 or later.

Rules: answers are printed as they are. The statements are those of C# 7, so that older projects
take them too, inside a method. This module must not know the other languages.
"""

from proxy.core.examples.literals import indented, json_text, quoted_ascii
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample


def render(sample: Sample) -> str:
    """Return the program."""
    names = ["System", "System.IO", "System.Net.Http"]
    names += ["System.Net.Http.Headers"] if sample.file is not None else []
    names += ["System.Text"] if sample.body is not None else []
    head = [f"using {name};" for name in names]
    return "\n".join([*head, "", *_content(sample), *_request(sample), *_answer(sample), ""])


def _content(sample: Sample) -> list[str]:
    if sample.body is not None:
        text = json_text(sample.body).replace('"', '""')
        return [f'var body = @"{text}";']
    if sample.file is None:
        return []
    field, name, kind = sample.file
    lines = ["var form = new MultipartFormDataContent();"]
    lines += [
        f'form.Add(new StringContent({quoted_ascii(value)}), "\\"{label}\\"");'
        for label, value in sample.form
    ]
    return [
        *lines,
        f'var file = new ByteArrayContent(File.ReadAllBytes("{name}"));',
        f'file.Headers.ContentType = new MediaTypeHeaderValue("{kind}");',
        f'form.Add(file, "\\"{field}\\"", "\\"{name}\\"");',
    ]


def _request(sample: Sample) -> list[str]:
    method = "Get" if sample.method == "GET" else "Post"
    key = f'"{sample.key_prefix}" + key' if sample.key_prefix else "key"
    lines = [f'var key = Environment.GetEnvironmentVariable("{KEY_VARIABLE}");']
    lines += ["var client = new HttpClient();"]
    lines += [f"var url = {quoted_ascii(sample.url)};"]
    lines += [f"var request = new HttpRequestMessage(HttpMethod.{method}, url);"]
    lines += [f'request.Headers.TryAddWithoutValidation("{sample.key_header}", {key});']
    lines += [f'request.Headers.Add("{name}", "{value}");' for name, value in sample.headers]
    if sample.body is not None:
        kind = '"application/json"'
        lines.append(f"request.Content = new StringContent(body, Encoding.UTF8, {kind});")
    elif sample.file is not None:
        lines.append("request.Content = form;")
    arguments = "request"
    if sample.stream:
        arguments += ", HttpCompletionOption.ResponseHeadersRead"
    return [
        *lines,
        f"var response = await client.SendAsync({arguments});",
        "if (!response.IsSuccessStatusCode)",
        "{",
        "    var told = await response.Content.ReadAsStringAsync();",
        '    Console.Error.WriteLine((int)response.StatusCode + " " + told);',
        "    Environment.Exit(1);",
        "}",
    ]


def _answer(sample: Sample) -> list[str]:
    read = "await response.Content.ReadAsStringAsync()"
    if sample.stream:
        loop = [
            'if (line.StartsWith("data:"))',
            "{",
            "    Console.WriteLine(line);",
            "}",
        ]
        return [
            "var reader = new StreamReader(await response.Content.ReadAsStreamAsync());",
            "string line;",
            "while ((line = await reader.ReadLineAsync()) != null)",
            "{",
            indented("\n".join(loop), 4),
            "}",
        ]
    if sample.reply is Reply.BYTES:
        content = "await response.Content.ReadAsByteArrayAsync()"
        return [f'File.WriteAllBytes("{sample.save_as}", {content});']
    if sample.reply is Reply.IMAGE:
        return [
            "// data[0] has the image: b64_json is the file in base64, or url its address",
            f'File.WriteAllText("{sample.save_as}.json", {read});',
        ]
    return [f"Console.WriteLine({read});"]
