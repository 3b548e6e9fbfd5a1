import pytest

from proxy.core.examples import ruby
from proxy.core.examples.literals import single_quoted
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert ruby.render(chat()) == (
        "require 'json'\nrequire 'net/http'\n\n"
        "uri = URI('https://relay.example/v1/chat/completions')\n"
        "request = Net::HTTP::Post.new(uri)\n"
        "request['authorization'] = \"Bearer #{ENV.fetch('SLUICE_API_KEY')}\"\n"
        "request['content-type'] = 'application/json'\n"
        "request.body = JSON.generate({\n"
        "  model: 'gpt-x',\n"
        "  messages: [{ role: 'user', content: 'Say hello in one sentence.' }]\n"
        "})\n"
        "http = Net::HTTP.new(uri.host, uri.port)\n"
        "http.use_ssl = uri.scheme == 'https'\n"
        "http.read_timeout = 600\n"
        "response = http.request(request)\n"
        'abort "#{response.code} #{response.body}" unless response.is_a?(Net::HTTPSuccess)\n'
        "puts JSON.parse(response.body).dig('choices', 0, 'message', 'content')\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = ruby.render(sample)
    assert single_quoted(sample.url) in program
    assert "ENV.fetch('SLUICE_API_KEY')" in program
    in_path = sample.endpoint in {"models", "gemini_generate"}
    assert (single_quoted(ODD) in program) != in_path
    assert (sample.save_as in program) or not sample.save_as
    assert ("read_body do" in program) == sample.stream
