"""Samples as a Go program with the standard library alone: `go run main.go`.

Rules: what comes is written out as it comes, so that a stream needs no code of its own. This module
must not know the other languages.
"""

from proxy.core.examples.literals import indented, json_text, quoted
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample

_CHECK = ["if err != nil {", "\tlog.Fatal(err)", "}"]


def render(sample: Sample) -> str:
    """Return the program."""
    names = {"io", "log", "net/http", "os"}
    if sample.body is not None:
        names.add("strings")
    if sample.file is not None:
        names |= {"bytes", "mime/multipart", "net/textproto"}
    if sample.reply is Reply.IMAGE:
        names |= {"encoding/json", "fmt"}
    imports = [f'\t"{name}"' for name in sorted(names)]
    lines = [*_content(sample), *_request(sample), *_answer(sample)]
    # Four columns of a level here are one tab there; JSON text in backquotes keeps its columns.
    head = ["package main", "", "import (", *imports, ")", "", "func main() {"]
    return "\n".join([*head, *(f"\t{line}" if line else "" for line in lines), "}", ""])


def _content(sample: Sample) -> list[str]:
    if sample.body is not None:
        first, *rest = indented(json_text(sample.body, unquotable="`"), 0).splitlines()
        return [f"body := strings.NewReader(`{first}", *rest[:-1], f"{rest[-1]}`)"]
    if sample.file is None:
        return []
    field, name, kind = sample.file
    disposition = f'form-data; name="{field}"; filename="{name}"'
    return [
        "body := &bytes.Buffer{}",
        "form := multipart.NewWriter(body)",
        *(f"form.WriteField({_text(label)}, {_text(value)})" for label, value in sample.form),
        "header := textproto.MIMEHeader{}",
        f'header.Set("Content-Disposition", `{disposition}`)',
        f'header.Set("Content-Type", "{kind}")',
        "part, err := form.CreatePart(header)",
        *_CHECK,
        f'content, err := os.ReadFile("{name}")',
        *_CHECK,
        "part.Write(content)",
        "form.Close()",
    ]


def _request(sample: Sample) -> list[str]:
    body = "nil" if sample.method == "GET" else "body"
    key = f'os.Getenv("{KEY_VARIABLE}")'
    key = f'"{sample.key_prefix}"+{key}' if sample.key_prefix else key
    url = _text(sample.url)
    lines = [f'request, err := http.NewRequest("{sample.method}", {url}, {body})', *_CHECK]
    lines.append(f'request.Header.Set("{sample.key_header}", {key})')
    lines += [f'request.Header.Set("{name}", "{value}")' for name, value in sample.headers]
    if sample.body is not None:
        lines.append('request.Header.Set("content-type", "application/json")')
    elif sample.file is not None:
        lines.append('request.Header.Set("content-type", form.FormDataContentType())')
    return [
        *lines,
        "response, err := http.DefaultClient.Do(request)",
        *_CHECK,
        "defer response.Body.Close()",
        "if response.StatusCode/100 != 2 {",
        "\tio.Copy(os.Stderr, response.Body)",
        '\tlog.Fatal("\\n", response.Status)',
        "}",
    ]


def _answer(sample: Sample) -> list[str]:
    if sample.reply is Reply.BYTES:
        return [
            f'file, err := os.Create("{sample.save_as}")',
            *_CHECK,
            "defer file.Close()",
            "io.Copy(file, response.Body)",
        ]
    if sample.reply is Reply.IMAGE:
        return [
            "var answer struct {",
            "\tData []struct {",
            '\t\tB64JSON []byte `json:"b64_json"`',
            '\t\tURL     string `json:"url"`',
            "\t}",
            "}",
            "if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {",
            "\tlog.Fatal(err)",
            "}",
            'if picture := answer.Data[0]; picture.URL != "" {',
            "\tfmt.Println(picture.URL)",
            "} else {",
            f'\tos.WriteFile("{sample.save_as}", picture.B64JSON, 0o644)',
            "}",
        ]
    return ["io.Copy(os.Stdout, response.Body)"]


def _text(text: str) -> str:
    # Go refuses a byte order mark inside a file, and halves of surrogate pairs as escapes.
    return quoted(text).replace("\ufeff", "\\ufeff")
