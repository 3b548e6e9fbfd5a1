"""Samples as a PHP program with the curl extension: `php example.php`.

Rules: PHP 8.0 or later. This module must not know the other languages.
"""

from proxy.core.examples.literals import PHP, indented, literal, single_quoted
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample


def render(sample: Sample) -> str:
    """Return the program."""
    options = [f"CURLOPT_HTTPHEADER => {_headers(sample)},"]
    if sample.body is not None:
        body = literal(sample.body, PHP)
        options.append(f"CURLOPT_POSTFIELDS => json_encode({body}),")
    elif sample.file is not None:
        field, name, kind = sample.file
        options.append("CURLOPT_POSTFIELDS => [")
        options += [f"    '{label}' => {single_quoted(value)}," for label, value in sample.form]
        options += [f"    '{field}' => new CURLFile('{name}', '{kind}'),", "],"]
    if sample.stream:
        options += _reader(sample)
    else:
        options.append("CURLOPT_RETURNTRANSFER => true,")
    lines = ["$rest = '';"] if sample.stream else []
    lines += [f"$curl = curl_init({single_quoted(sample.url)});"]
    lines += ["curl_setopt_array($curl, [", indented("\n".join(options), 4), "]);"]
    lines += ["$answer = curl_exec($curl);"]
    lines += ["$status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);", *_refused(sample)]
    return "\n".join(["<?php", *lines, *_answer(sample), ""])


def _headers(sample: Sample) -> str:
    key = f"getenv('{KEY_VARIABLE}')"
    rows = [f"    '{sample.key_header}: {sample.key_prefix}' . {key},"]
    rows += [f"    '{name}: {value}'," for name, value in sample.headers]
    if sample.body is not None:
        rows.append("    'content-type: application/json',")
    return "\n".join(["[", *rows, "]"])


def _refused(sample: Sample) -> list[str]:
    said = "$rest" if sample.stream else "$answer"
    return [
        "if ($answer === false || intdiv($status, 100) !== 2) {",
        f"    fwrite(STDERR, $status . ' ' . curl_error($curl) . {said} . PHP_EOL);",
        "    exit(1);",
        "}",
    ]


def _reader(sample: Sample) -> list[str]:
    """Print the words as they come; what is no whole line (an error) stays in `$rest`."""
    openai = sample.words[0] == "choices"
    words = "['choices'][0]['delta']['content']" if openai else "['delta']['text']"
    return [
        "CURLOPT_WRITEFUNCTION => function ($curl, $data) use (&$rest) {",
        '    $lines = explode("\\n", $rest . $data);',
        "    $rest = array_pop($lines);",
        "    foreach ($lines as $line) {",
        "        if (str_starts_with($line, 'data: {')) {",
        "            $event = json_decode(substr($line, 6), true);",
        f"            echo $event{words} ?? '';",
        "            flush();",
        "        }",
        "    }",
        "    return strlen($data);",
        "},",
    ]


def _answer(sample: Sample) -> list[str]:
    if sample.stream:
        return ['echo "\\n";']
    if sample.reply is Reply.BYTES:
        return [f"file_put_contents('{sample.save_as}', $answer);"]
    if sample.reply is Reply.IMAGE:
        return [
            "$picture = json_decode($answer, true)['data'][0];",
            "if (isset($picture['b64_json'])) {",
            f"    file_put_contents('{sample.save_as}', base64_decode($picture['b64_json']));",
            "} else {",
            "    echo $picture['url'], \"\\n\";",
            "}",
        ]
    if sample.reply is Reply.TEXT:
        path = "".join(
            f"['{step}']" if isinstance(step, str) else f"[{step}]" for step in sample.words
        )
        return [f'echo json_decode($answer, true){path}, "\\n";']
    return ['echo $answer, "\\n";']
