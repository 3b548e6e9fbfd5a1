"""A real llama.cpp server with a tiny random model: the independent meter of the billing tests.

`python -m tests.integration.llama FILE TOKENS` is the server process; `LlamaServer` starts and stops
it. The model (about 500 KB, written by the `gguf` package from a fixed seed) knows how to speak
only in the sense that every layer of llama.cpp is real: tokenizer, template, sampler, counters.
Its `llamacpp:tokens_predicted_total` counts sampled tokens without knowing who pays for them.

How the weights steer a random model: the first coordinate of every embedding is large and the
layers add little to it, so after the last norm it is nearly constant and works as a bias per
output row. Lone bytes that are not ASCII get a bias that never lets them be sampled, so the text stays
valid UTF-8, and the end token one that ends an answer now and then before its token limit. The
second coordinate is set only on the first half of an emoji and calls for a second half: such
characters take two tokens and make one event, so that tokens and events differ in number.

This module must not know about the relay.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import programs

MODEL_SEED = 20_261_121
CONTEXT_TOKENS = 4096
"""A slot's context unless the test asks for more, up to what the model says it was made for."""
MODEL_CONTEXT_TOKENS = 131_072
SLOTS = 4
PREDICT_TOKENS_MAX = 3500
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
MODEL_NAME = "tiny-random-llama"

_EMBEDDING = 64
_FEED_FORWARD = 96
_HEADS = 4
_LAYERS = 1
_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_CODAS = ("", "n", "r", "s", "l", "t")
_CHARACTERS = "éüñßøçабвгдежз日本語中文漢字한국어αβγδελ€–…“”"
_EMOJI = "😀🚀🎉🌍💡🔥"
_TEMPLATE = (
    "{% if tools %}<|system|>Tools:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}<|end|>\n"
    "{% endif %}{% for message in messages %}<|{{ message.role }}|>"
    "{{ message.content if message.content is string else '' }}"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CONTROL = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_END_TOKEN = "<|end|>"


def _byte_alphabet() -> dict[int, str]:
    """Map bytes to printable characters: itself where printable, else U+0100 upwards in order.

    Source: the byte-level BPE vocabulary format that llama.cpp reads as tokenizer model `gpt2`.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in alphabet]
    alphabet.update({byte: chr(0x100 + index) for index, byte in enumerate(others)})
    return alphabet


class _Vocabulary:
    """Tokens and merges of a byte-level BPE, grown word by word from left to right."""

    def __init__(self) -> None:
        self.alphabet = _byte_alphabet()
        self.tokens = [self.alphabet[byte] for byte in range(256)]
        self.merges: list[str] = []
        self.spoken: set[str] = {
            self.alphabet[byte] for byte in b" \n.,!?abcdefghijklmnop0123456789"
        }
        self._known = set(self.tokens)
        for text in self._words():
            self._learn(text, spoken=True)
        for character in _CHARACTERS:
            self._learn(character, spoken=True)
        for character in _EMOJI:
            self._learn_bytes(character.encode()[:2], spoken=True)
            self._learn_bytes(character.encode()[2:], spoken=False)

    def token(self, raw: bytes) -> str:
        """Return `raw` as this vocabulary writes it."""
        return "".join(self.alphabet[byte] for byte in raw)

    @staticmethod
    def _words() -> list[str]:
        words = []
        for index in range(150):
            digest = hashlib.sha256(f"{MODEL_SEED}/{index}".encode()).digest()
            syllables = [
                _ONSETS[digest[3 * part] % len(_ONSETS)]
                + _VOWELS[digest[3 * part + 1] % len(_VOWELS)]
                + _CODAS[digest[3 * part + 2] % len(_CODAS)]
                for part in range(1 + digest[31] % 2)
            ]
            words.append((" " if index % 4 else "") + "".join(syllables))
        return words

    def _learn(self, text: str, *, spoken: bool) -> None:
        self._learn_bytes(text.encode(), spoken=spoken)

    def _learn_bytes(self, text: bytes, *, spoken: bool) -> None:
        left = self.alphabet[text[0]]
        for byte in text[1:]:
            right = self.alphabet[byte]
            if left + right not in self._known:
                self.merges.append(f"{left} {right}")
                self.tokens.append(left + right)
                self._known.add(left + right)
            left += right
        if spoken:
            self.spoken.add(left)


def write_model(path: Path) -> None:
    """Write the GGUF file; the same bytes on every machine and run."""
    import gguf
    import numpy as np

    vocabulary = _Vocabulary()
    tokens = [*vocabulary.tokens, *_CONTROL]
    types = [gguf.TokenType.NORMAL] * len(vocabulary.tokens)
    types += [gguf.TokenType.CONTROL] * len(_CONTROL)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(MODEL_NAME)
    writer.add_context_length(MODEL_CONTEXT_TOKENS)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_EMBEDDING // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(tokens.index("<|begin|>"))
    writer.add_eos_token_id(tokens.index(_END_TOKEN))
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)
    rng = np.random.Generator(np.random.PCG64(MODEL_SEED))

    def normal(rows: int, columns: int, scale: float) -> "np.ndarray":
        return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)

    embedding = normal(len(tokens), _EMBEDDING, 1.0)
    embedding[:, 0] = 8.0
    output = normal(len(tokens), _EMBEDDING, 0.3)
    for index, token in enumerate(tokens):
        # After the norm the first coordinate is about sqrt(64) * 8 / sqrt(64 + 63) = 5.7.
        output[index, 0] = 0.0 if token in vocabulary.spoken else -20.0
    output[tokens.index(_END_TOKEN), 0] = 0.15
    embedding[:, 1] = 0.0
    output[:, 1] = 0.0
    output[tokens.index(vocabulary.token(_EMOJI[0].encode()[:2])), 0] = 0.6
    for character in _EMOJI:
        embedding[tokens.index(vocabulary.token(character.encode()[:2])), 1] = 16.0
        output[tokens.index(vocabulary.token(character.encode()[2:])), 1] = 20.0
    ones = np.ones(_EMBEDDING, dtype=np.float32)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(_LAYERS):
        name = f"blk.{layer}"
        writer.add_tensor(f"{name}.attn_norm.weight", ones)
        writer.add_tensor(f"{name}.ffn_norm.weight", ones)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{name}.{part}.weight", normal(_EMBEDDING, _EMBEDDING, 0.05))
        writer.add_tensor(f"{name}.ffn_gate.weight", normal(_FEED_FORWARD, _EMBEDDING, 0.05))
        writer.add_tensor(f"{name}.ffn_up.weight", normal(_FEED_FORWARD, _EMBEDDING, 0.05))
        writer.add_tensor(f"{name}.ffn_down.weight", normal(_EMBEDDING, _FEED_FORWARD, 0.05))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cached_model() -> Path:
    """Write the model once per machine and source version; concurrent test runs may race."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"sluice-tests-{os.getuid()}" / f"tiny-{version}.gguf"
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        write_model(partial)
        partial.replace(path)
    return path


def tokens_predicted(metrics: str) -> int:
    """Read `llamacpp:tokens_predicted_total` from a metrics page."""
    return tokens_of("tokens_predicted_total", metrics)


def tokens_of(meter: str, metrics: str) -> int:
    """Read one of the server's counters from a metrics page."""
    match = re.search(rf"^llamacpp:{meter} (\S+)$", metrics, re.MULTILINE)
    if match is None:
        raise AssertionError(f"no llamacpp:{meter} in {metrics!r}")
    value = float(match[1])
    if value != int(value):
        raise AssertionError(f"the meter lost precision: {match[1]}")
    return int(value)


class LlamaServer:
    """A running server: `with LlamaServer() as llama: llama.base_url`."""

    def __init__(self, context_tokens: int = CONTEXT_TOKENS, *, embeds: bool = False) -> None:
        """`embeds`: it answers with embeddings, and with nothing else (llama-server's own rule)."""
        self._context_tokens = context_tokens
        self._embeds = embeds
        self.base_url = ""
        """`http://127.0.0.1:PORT`, without `/v1`."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()

    def start(self) -> Self:
        """Start and wait until the model answers; raise with the server's own log if it does not."""
        programs.need_library("libgomp.so.1")  # xllamacpp's wheel leaves it to the system
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.llama",
                str(cached_model()),
                str(self._context_tokens),
                *(["embeds"] if self._embeds else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=Path(__file__).parents[2],
        )
        if self._process.stdout is None:
            raise AssertionError
        giving_up = threading.Timer(START_SECONDS_MAX, self._process.kill)
        giving_up.start()
        line = self._process.stdout.readline().decode().strip()
        giving_up.cancel()
        if not line.startswith("http://"):
            raise AssertionError(f"llama.cpp did not start: {self.log()[-2000:]}")
        self.base_url = line
        return self

    def stop(self) -> None:
        """End the process; closing its standard input asks, a kill insists."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        self._log.close()

    def log(self) -> str:
        """Everything the server wrote to its standard error."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def tokens_predicted(self) -> int:
        """Tokens sampled since the start, for requests that ended by themselves.

        The count and the last event of a request come from one thread in that order, so after
        a complete answer no waiting is needed. Two facts of this server's own figures: with
        `n` > 1 its usage covers one choice only, and `tool_choice` does not bind this model.
        """
        return tokens_predicted(self._metrics())

    def prompt_tokens(self) -> int:
        """Tokens of prompts read since the start."""
        return tokens_of("prompt_tokens_total", self._metrics())

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"{self.base_url}/metrics", timeout=10) as response:
            text: bytes = response.read()
        return text.decode()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _serve(model: Path, context_tokens: int, *, embeds: bool) -> None:
    """Run the server, with that many tokens of context a slot, until standard input ends; print its address first."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {MODEL_NAME}
    parameters.n_ctx = context_tokens * SLOTS
    parameters.n_parallel = SLOTS
    parameters.n_predict = PREDICT_TOKENS_MAX
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.cpuparams.poll = 0
    parameters.cpuparams_batch.poll = 0
    parameters.n_threads_http = 16
    parameters.cache_ram_mib = 0
    parameters.endpoint_metrics = True
    parameters.ui = False
    parameters.warmup = False
    parameters.fit_params = False
    parameters.embedding = embeds
    if embeds:
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    # The server's threads have no clean way to end that is quicker than the process itself.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), embeds="embeds" in sys.argv[3:])
