import copy
import tomllib
from typing import Any

import pytest

from proxy.core.entities import DIALECT_ENDPOINTS, Dialect, DisconnectMode, Formula, Tokenizer
from proxy.storage.documents import read_document, write_document
from tests.storage.world import CATALOG

TEXT = """
version = 3
[[plan]]
name = "pay-as-you-go"
requests_per_minute = 500
tokens_per_minute = 1_000_000
concurrency = 100
[[group]]
name = "default"
multiplier = "1.25"
disconnect = "drain"
drain_seconds_max = 10
retry_after_timeout = true
output_tokens_max = 8192
cache_scope = "user"
cache_multiplier = "0.1"
[[model]]
name = "gpt-4o"
context_window = 128000
output_tokens_max = 16384
tokenizer = "o200k"
price = { input = "2.50", cache_read = "1.25", output = "10.00", image = "0.001", call = "0.01" }
[[model]]
name = "ratio"
context_window = 1
output_tokens_max = 1
price = { model_ratio = "1.25", completion_ratio = "4", cache_ratio = "0.5" }
[[model]]
name = "free of price"
context_window = 1
output_tokens_max = 1
hidden_output = true
endpoints = ["images_generations", "images_edits"]
[[channel]]
name = "main"
dialect = "anthropic"
base_url = "https://api.example.com/v1"
keys = ["sk-1", "sealed:4"]
groups = ["default"]
models = { "gpt-4o" = "gpt-4o-2024" }
costs = { "gpt-4o" = { input = "2.50", output = "10.00" } }
proxy = "http://10.0.0.1:3128"
[[channel]]
name = "azure"
dialect = "openai"
base_url = "https://resource.openai.azure.com"
api_version = "2024-10-21"
endpoints = ["chat", "responses"]
"""


def test_a_document_is_read_with_one_default_for_what_it_leaves_out() -> None:
    document = read_document(tomllib.loads(TEXT))
    assert document.version == 3
    (plan,), (group,) = document.plans, document.groups
    assert (plan.requests_per_minute, plan.concurrency) == (500, 100)
    assert (group.multiplier, group.disconnect) == (1_250_000, DisconnectMode.DRAIN)
    priced, ratio, unpriced = document.models
    assert priced.tokenizer is Tokenizer.O200K
    assert priced.price is not None
    assert (priced.price.input, priced.price.cache_read) == (2_500_000_000, 1_250_000_000)
    assert priced.price.cache_write_5m == priced.price.cache_write_1h == priced.price.input
    assert priced.price.audio_input == priced.price.input, "never free where it is billed to us"
    assert priced.price.audio_output == priced.price.output
    assert (priced.price.image, priced.price.call) == (10**12, 10**7)
    assert ratio.price is not None
    assert ratio.price.formula is Formula.RATIO
    assert (ratio.price.completion_ratio, ratio.price.cache_ratio) == (4_000_000, 500_000)
    assert unpriced.price is None
    assert unpriced.hidden_output
    assert unpriced.endpoints == frozenset({"images_generations", "images_edits"})
    assert priced.endpoints is None
    entry, azure = document.channels
    assert azure.channel.endpoints == {"chat", "responses"}
    assert azure.channel.api_version == "2024-10-21"
    assert entry.channel.api_version is None
    assert entry.channel.endpoints == DIALECT_ENDPOINTS["anthropic"]
    assert entry.keys == ("sk-1", "sealed:4")
    assert entry.channel.dialect is Dialect.ANTHROPIC
    assert entry.channel.costs["gpt-4o"].output == 10**10
    assert entry.channel.weight == 1
    assert entry.channel.enabled


def test_what_is_written_reads_back_the_same() -> None:
    document = read_document(tomllib.loads(TEXT))
    written = write_document(document)
    assert read_document(written) == document
    assert "endpoints" not in written["channel"][0], "a later release may know more of a dialect"


def test_models_may_be_a_list_where_both_names_agree() -> None:
    table = copy.deepcopy(CATALOG)
    table["channel"][0]["models"] = ["m", "thinker"]
    assert read_document(table).channels[0].channel.models == {"m": "m", "thinker": "thinker"}


BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("unknown key 'limits'", "plan", {"limits": 1}),
    ("whole number", "plan", {"concurrency": "5"}),
    ("whole number", "plan", {"concurrency": True}),
    ("at least 1", "plan", {"concurrency": 0}),
    ("name must be text", "plan", {"name": ""}),
    ("name must be text", "plan", {"name": 5}),
    ("not a ratio", "group", {"multiplier": 1.5}),
    ("not a ratio", "group", {"multiplier": "-1"}),
    ("one of cancel, drain", "group", {"disconnect": "maybe"}),
    ("one of cancel, drain", "group", {"disconnect": ["drain"]}),
    ("seconds", "group", {"drain_seconds_max": "5"}),
    ("above 0", "group", {"drain_seconds_max": 0}),
    ("above 0", "group", {"drain_seconds_max": float("nan")}),
    ("above 0", "group", {"drain_seconds_max": 10**9}),
    ("true or false", "group", {"retry_after_timeout": 1}),
    ("one of key, user, group", "group", {"cache_scope": "everybody"}),
    ("not a ratio", "group", {"cache_multiplier": 0.1}),
    ("context_window must be a whole", "model", {"context_window": None}),
    ("must be a table", "model", {"price": "2.50"}),
    ("not a price", "model", {"price": {"input": 2.5}}),
    ("at most 1,000", "group", {"multiplier": "1000.000001"}),
    ("one of openai, anthropic, gemini", "channel", {"dialect": "cohere"}),
    ("URL", "channel", {"base_url": "ftp://example.com"}),
    ("URL", "channel", {"base_url": "example.com"}),
    ("URL", "channel", {"base_url": "https://"}),
    ("URL", "channel", {"base_url": "https://exa mple.com"}),
    ("URL", "channel", {"base_url": "https://example.com:99999"}),
    ("URL", "channel", {"base_url": 5}),
    ("no user name", "channel", {"base_url": "https://me:word@example.com/v1"}),
    ("no user name", "channel", {"base_url": "https://example.com/v1?key=sk-1"}),
    ("no user name", "channel", {"base_url": "https://example.com/v1#here"}),
    ("URL", "channel", {"proxy": "socks5://x"}),
    ("list of texts", "channel", {"keys": "sk-1"}),
    ("list of texts", "channel", {"groups": [1]}),
    ("twice", "channel", {"keys": ["a", "a"]}),
    ("ASCII", "channel", {"keys": ["sk-\nx"]}),
    ("ASCII", "channel", {"keys": [""]}),
    ("models must map", "channel", {"models": {"m": 5}}),
    ("models must map", "channel", {"models": "m"}),
    ("unknown key 'other'", "channel", {"costs": {"other": {"input": "1"}}}),
    ("must be a table", "channel", {"costs": {"m": "1"}}),
    ("weight", "channel", {"weight": 0}),
    ("endpoints must be some of chat, ", "channel", {"endpoints": []}),
    ("endpoints must be some of chat, ", "model", {"endpoints": ["chats"]}),
    ("endpoints must be a list", "model", {"endpoints": "chat"}),
    ("api_version must be text", "channel", {"api_version": 20241021}),
    ("api_version is for Azure", "channel", {"api_version": "v1", "dialect": "anthropic"}),
    (
        "base_url must end before /openai where api_version is: https://r.example$",
        "channel",
        {"api_version": "v1", "base_url": "https://r.example/openai/v1", "dialect": "openai"},
    ),
]


@pytest.mark.parametrize(("message", "kind", "change"), BAD)
def test_a_fault_names_its_entry(message: str, kind: str, change: dict[str, Any]) -> None:
    document = copy.deepcopy(CATALOG)
    document[kind][0] |= change
    with pytest.raises(ValueError, match=message) as refused:
        read_document(document)
    assert kind in str(refused.value)


def test_faults_of_the_whole() -> None:
    for document, message in (
        ({"plans": []}, "unknown key 'plans'"),
        ({"plan": {"name": "x"}}, "list of at most"),
        ({"plan": [5]}, "plan number 1 must be a table"),
        ({"plan": [{"name": "x"}, {"name": "x"}]}, "twice"),
        ({"version": "1"}, "version must be"),
    ):
        with pytest.raises(ValueError, match=message):
            read_document(document)
