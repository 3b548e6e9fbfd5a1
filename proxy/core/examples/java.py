"""Samples as one Java file, 17 or later, with java.net.http alone: `java Main.java`.

Rules: the standard library reads no JSON, so answers are printed as they are; text is ASCII, since
older compilers read files in the encoding of the machine. This module must not know the other
languages.
"""

from proxy.core.examples.literals import indented, json_text, quoted_ascii
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample

_FAILED = [
    "if (response.statusCode() / 100 != 2) {",
    '    System.err.println(response.statusCode() + " " + {shown});',
    "    System.exit(1);",
    "}",
]


def render(sample: Sample) -> str:
    """Return the file."""
    http = ["HttpClient", "HttpRequest", "HttpRequest.BodyPublishers"]
    http += ["HttpResponse", "HttpResponse.BodyHandlers"]
    imports = ["java.net.URI", *(f"java.net.http.{name}" for name in http)]
    if sample.file is not None or sample.save_as:
        imports += ["java.nio.file.Files", "java.nio.file.Path"]
    if sample.stream:
        imports.append("java.util.stream.Collectors")
    elif sample.file is not None:
        imports.append("java.util.UUID")
    lines = [*_body(sample), *_request(sample), *_answer(sample)]
    body = indented("\n".join(lines), 8)
    main = "    public static void main(String[] args) throws Exception {"
    head = [f"import {name};" for name in imports]
    return "\n".join([*head, "", "public class Main {", main, body, "    }", "}", ""])


def _body(sample: Sample) -> list[str]:
    if sample.body is not None:
        text = json_text(sample.body).replace("\\", "\\\\")
        return ['var body = """', indented(text, 4) + '""";']
    if sample.file is None:
        return []
    field, name, kind = sample.file
    lines = ["var boundary = UUID.randomUUID().toString();", "var fields = new StringBuilder();"]
    for label, value in sample.form:
        lines.append('fields.append("--" + boundary + "\\r\\n")')
        lines.append(
            f'    .append("content-disposition: form-data; name=\\"{label}\\"\\r\\n\\r\\n")'
        )
        lines.append(f'    .append({quoted_ascii(value)} + "\\r\\n");')
    disposition = f'content-disposition: form-data; name=\\"{field}\\"; filename=\\"{name}\\"\\r\\n'
    return [
        *lines,
        'fields.append("--" + boundary + "\\r\\n")',
        f'    .append("{disposition}")',
        f'    .append("content-type: {kind}\\r\\n\\r\\n");',
    ]


def _request(sample: Sample) -> list[str]:
    key = f'System.getenv("{KEY_VARIABLE}")'
    key = f'"{sample.key_prefix}" + {key}' if sample.key_prefix else key
    lines = [f"var request = HttpRequest.newBuilder(URI.create({quoted_ascii(sample.url)}))"]
    lines.append(f'    .header("{sample.key_header}", {key})')
    lines += [f'    .header("{name}", {quoted_ascii(value)})' for name, value in sample.headers]
    if sample.body is not None:
        lines.append('    .header("content-type", "application/json")')
        lines.append("    .POST(BodyPublishers.ofString(body))")
    elif sample.file is not None:
        lines.append('    .header("content-type", "multipart/form-data; boundary=" + boundary)')
        lines.append("    .POST(BodyPublishers.concat(")
        lines.append("        BodyPublishers.ofString(fields.toString()),")
        lines.append(f'        BodyPublishers.ofFile(Path.of("{sample.file[1]}")),')
        lines.append('        BodyPublishers.ofString("\\r\\n--" + boundary + "--\\r\\n")))')
    return [*lines, "    .build();"]


def _answer(sample: Sample) -> list[str]:
    if sample.stream:
        handler, shown = "ofLines", 'response.body().collect(Collectors.joining("\\n"))'
        told = ['response.body().filter(line -> line.startsWith("data:"))']
        told += ["    .forEach(System.out::println);"]
    elif sample.reply is Reply.BYTES:
        handler, shown = "ofByteArray", "new String(response.body())"
        told = [f'Files.write(Path.of("{sample.save_as}"), response.body());']
    elif sample.reply is Reply.IMAGE:
        handler, shown = "ofString", "response.body()"
        told = ["// data[0] has the image: b64_json is the file in base64, or url its address"]
        told += [f'Files.writeString(Path.of("{sample.save_as}.json"), response.body());']
    else:
        handler, shown = "ofString", "response.body()"
        told = ["System.out.println(response.body());"]
    failed = [line.replace("{shown}", shown) for line in _FAILED]
    send = f"var response = HttpClient.newHttpClient().send(request, BodyHandlers.{handler}());"
    return [send, *failed, *told]
