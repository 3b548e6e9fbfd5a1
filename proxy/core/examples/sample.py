"""One request of every endpoint that people call, as data: what each language's program sends.

Rules: a sample is small, cheap and complete; what it needs from disk (an image, a recording) is one
file in the current directory, named here; where its answer holds the words is said once, for every
language. This module must not know any programming language.

Sources: the request examples of OpenAI's, Anthropic's and Google's API references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias
from urllib.parse import quote

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json]"

KEY_VARIABLE: Final = "SLUICE_API_KEY"
"""The environment variable every program reads its key from."""
ANTHROPIC_VERSION: Final = "2023-06-01"
QUESTION: Final = "Say hello in one sentence."
IMAGE_IN: Final = "image.png"
IMAGE_OUT: Final = "picture.png"
SPEECH: Final = "speech.mp3"


class Reply(Enum):
    """What comes back, and what a program does with it."""

    TEXT = auto()
    """JSON: print the words at `words`, or all of it where the language reads no JSON."""
    JSON = auto()
    """JSON: print it."""
    EVENTS = auto()
    """Server-sent events: print the words at `words` of each as they come."""
    IMAGE = auto()
    """JSON with an image, in base64 or as an address: save it as `save_as`, or print that."""
    BYTES = auto()
    """A file: save it as `save_as`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: `body` is JSON, or `form` are the fields of a multipart form beside `file`."""

    endpoint: str
    """The value of an `Endpoint`."""
    url: str
    base_url: str
    """What an SDK is given: the relay's root or `/v1`, as that SDK wants it."""
    model: str
    method: str = "POST"
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Json] | None = None
    form: tuple[tuple[str, str], ...] = ()
    file: tuple[str, str, str] | None = None
    """Field, file name, content type."""
    reply: Reply = Reply.JSON
    words: tuple[str | int, ...] = ()
    """Where the words are: member names and list positions."""
    save_as: str = ""

    @property
    def stream(self) -> bool:
        """Whether the answer comes as events."""
        return self.reply is Reply.EVENTS


ENDPOINTS: Final = (
    "chat", "messages", "responses", "completions", "embeddings", "images_generations",
    "images_edits", "transcriptions", "speech", "moderations", "rerank", "models",
    "gemini_generate",
)  # fmt: skip
STREAMED: Final = ("chat", "messages")
"""Endpoints that have a streamed sample too."""


def sample(endpoint: str, *, base_url: str, model: str, stream: bool = False) -> Sample:
    """The request of `endpoint` for `model`; `base_url` is the relay's, with or without `/v1`.

    Raises ValueError, which names what there is, for an endpoint without a sample.
    """
    if endpoint not in ENDPOINTS:
        raise ValueError(f"no example for {endpoint!r}; there are {', '.join(ENDPOINTS)}")
    if stream and endpoint not in STREAMED:
        raise ValueError(f"{endpoint} has no streamed example; {' and '.join(STREAMED)} have")
    root = base_url.rstrip("/").removesuffix("/v1").rstrip("/")
    if endpoint == "messages":
        return _messages(root, model, stream=stream)
    if endpoint == "gemini_generate":
        return _gemini(root, model)
    if endpoint == "models":
        return Sample(endpoint, f"{root}/v1/models", f"{root}/v1", model, method="GET")
    if endpoint in _FORMS:
        return _form(endpoint, root, model)
    path, body, reply, words = _BODIES[endpoint]
    streaming: Mapping[str, Json] = {"stream": True} if stream else {}
    return Sample(
        endpoint,
        f"{root}/v1{path}",
        f"{root}/v1",
        model,
        body={"model": model, **body, **streaming},
        reply=Reply.EVENTS if stream else reply,
        words=("choices", 0, "delta", "content") if stream else words,
        save_as={Reply.IMAGE: IMAGE_OUT, Reply.BYTES: SPEECH}.get(reply, ""),
    )


def in_path(model: str) -> str:
    """A model's name as it is written in a URL; Google's SDKs put it there as they are given it."""
    return quote(model, safe="/")


_ASKED: Final[Sequence[Json]] = ({"role": "user", "content": QUESTION},)
_BODIES: Final[Mapping[str, tuple[str, Mapping[str, Json], Reply, tuple[str | int, ...]]]] = {
    "chat": (
        "/chat/completions",
        {"messages": _ASKED},
        Reply.TEXT,
        ("choices", 0, "message", "content"),
    ),
    # Where the words are depends on what else is in the list, so that only SDKs pick them out.
    "responses": ("/responses", {"input": QUESTION}, Reply.JSON, ()),
    "completions": (
        "/completions",
        {"prompt": "Once upon a time", "max_tokens": 64},
        Reply.TEXT,
        ("choices", 0, "text"),
    ),
    "embeddings": ("/embeddings", {"input": "Words to compare."}, Reply.JSON, ()),
    "images_generations": (
        "/images/generations",
        {"prompt": "A lighthouse at dawn, in watercolour", "size": "1024x1024"},
        Reply.IMAGE,
        (),
    ),
    "speech": (
        "/audio/speech",
        {"voice": "alloy", "input": "Hello, this is a test."},
        Reply.BYTES,
        (),
    ),
    "moderations": ("/moderations", {"input": "Words to judge."}, Reply.JSON, ()),
    "rerank": (
        "/rerank",
        {
            "query": "Which animal barks?",
            "documents": ("Cats meow.", "Dogs bark.", "Fish are silent."),
        },
        Reply.JSON,
        (),
    ),
}
_FORMS: Final[Mapping[str, tuple[str, tuple[tuple[str, str], ...], tuple[str, str, str]]]] = {
    "images_edits": (
        "/images/edits",
        (("prompt", "Add a small red boat"),),
        ("image", IMAGE_IN, "image/png"),
    ),
    "transcriptions": ("/audio/transcriptions", (), ("file", SPEECH, "audio/mpeg")),
}


def _form(endpoint: str, root: str, model: str) -> Sample:
    path, fields, file = _FORMS[endpoint]
    image = endpoint == "images_edits"
    return Sample(
        endpoint,
        f"{root}/v1{path}",
        f"{root}/v1",
        model,
        form=(("model", model), *fields),
        file=file,
        reply=Reply.IMAGE if image else Reply.TEXT,
        words=() if image else ("text",),
        save_as=IMAGE_OUT if image else "",
    )


def _messages(root: str, model: str, *, stream: bool) -> Sample:
    body: dict[str, Json] = {"model": model, "max_tokens": 1024, "messages": _ASKED}
    if stream:
        body["stream"] = True
    return Sample(
        "messages",
        f"{root}/v1/messages",
        root,
        model,
        key_header="x-api-key",
        key_prefix="",
        headers=(("anthropic-version", ANTHROPIC_VERSION),),
        body=body,
        reply=Reply.EVENTS if stream else Reply.TEXT,
        words=("delta", "text") if stream else ("content", 0, "text"),
    )


def _gemini(root: str, model: str) -> Sample:
    contents: Sequence[Json] = ({"role": "user", "parts": ({"text": QUESTION},)},)
    return Sample(
        "gemini_generate",
        f"{root}/v1beta/models/{in_path(model)}:generateContent",
        root,
        model,
        key_header="x-goog-api-key",
        key_prefix="",
        body={"contents": contents},
        reply=Reply.TEXT,
        words=("candidates", 0, "content", "parts", 0, "text"),
    )
