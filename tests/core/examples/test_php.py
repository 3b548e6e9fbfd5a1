import pytest

from proxy.core.examples import php
from proxy.core.examples.literals import single_quoted
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert php.render(chat()) == (
        "<?php\n"
        "$curl = curl_init('https://relay.example/v1/chat/completions');\n"
        "curl_setopt_array($curl, [\n"
        "    CURLOPT_HTTPHEADER => [\n"
        "        'authorization: Bearer ' . getenv('SLUICE_API_KEY'),\n"
        "        'content-type: application/json',\n"
        "    ],\n"
        "    CURLOPT_POSTFIELDS => json_encode([\n"
        "        'model' => 'gpt-x',\n"
        "        'messages' => [['role' => 'user', 'content' => 'Say hello in one sentence.']],\n"
        "    ]),\n"
        "    CURLOPT_RETURNTRANSFER => true,\n"
        "]);\n"
        "$answer = curl_exec($curl);\n"
        "$status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);\n"
        "if ($answer === false || intdiv($status, 100) !== 2) {\n"
        "    fwrite(STDERR, $status . ' ' . curl_error($curl) . $answer . PHP_EOL);\n"
        "    exit(1);\n"
        "}\n"
        "echo json_decode($answer, true)['choices'][0]['message']['content'], \"\\n\";\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = php.render(sample)
    assert single_quoted(sample.url) in program
    assert "getenv('SLUICE_API_KEY')" in program
    in_path = sample.endpoint in {"models", "gemini_generate"}
    assert (single_quoted(ODD) in program) != in_path
    assert (sample.save_as in program) or not sample.save_as
    assert ("CURLOPT_WRITEFUNCTION" in program) == sample.stream
