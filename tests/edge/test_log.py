import io
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from proxy.core.redact import REDACTED
from proxy.edge import log

KEY = "sk-abcDEF0123456789abcDEF0123456789"


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.BytesIO()
    log.configure("info", "json", written)
    yield written
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY} refused",
        f"Authorization: Bearer {KEY}",
        "authorization: Bearer abc.DEF-123~+/=",
        "BEARER   abcdefgh1234".replace("   ", " "),
        "{'x-api-key': 'canary-1234'}",
        "x-api-key: canary-1234",
        "X-Api-Key=canary-1234",
        "{'Authorization': 'Basic Y2FuYXJ5'}",
        "authorization: Y2FuYXJ5canary",
        f"https://host/?key={KEY}&x=1",
    ],
)
def test_no_credential_survives(text: str) -> None:
    redacted = log.redact(text)
    assert REDACTED in redacted
    for canary in (KEY, "canary", "Y2FuYXJ5", "abc.DEF", "abcdefgh1234"):
        assert canary not in redacted


def test_ordinary_text_is_left_alone() -> None:
    text = "model gpt-4o asked for 3 task-list items"
    assert log.redact(text) == text


def test_a_secret_across_the_cut_leaves_nothing_behind() -> None:
    lead = "x" * (log.TEXT_CHARACTERS_MAX - 12) + " "
    assert "sk-" not in log.redact(lead + KEY)
    assert len(log.redact("x" * 10_000)) == log.TEXT_CHARACTERS_MAX + 1


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_can_forge_a_line(stream: io.BytesIO, form: str) -> None:
    log.configure("info", form, stream)  # type: ignore[arg-type]
    log.get().info("a\nb", model="x\r\n\x1b[31m\u2028\u202e\x00\ud800", status=1)
    written = stream.getvalue()
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    assert not any(byte < 32 for byte in written[:-1])
    assert b"\\u000a" in written


def test_lines_are_json_with_allowed_fields_only(stream: io.BytesIO) -> None:
    log.get().warning("call ended", request_id="req_1", prompt="do not keep", charge_nano=7)
    line = orjson.loads(stream.getvalue())
    assert line["level"] == "warning"
    assert line["event"] == "call ended"
    assert (line["request_id"], line["charge_nano"]) == ("req_1", 7)
    assert line["dropped"] == ["prompt"]
    assert b"do not keep" not in stream.getvalue()


def test_values_of_any_type_become_safe_text(stream: io.BytesIO) -> None:
    log.get().info("odd", error=ValueError(f"bad {KEY}"), count=1, seconds=0.5, reason=None)
    line = orjson.loads(stream.getvalue())
    assert line["error"] == f"bad {REDACTED}"
    assert (line["count"], line["seconds"], line["reason"]) == (1, 0.5, None)


def test_lines_below_the_level_cost_nothing_and_are_not_written(stream: io.BytesIO) -> None:
    log.get().debug("not shown")
    log.configure("error", "json", stream)
    log.get().info("not shown")
    assert stream.getvalue() == b""


def test_the_text_form_reads_as_key_value(stream: io.BytesIO) -> None:
    log.configure("info", "text", stream)
    log.get().info("started", address="127.0.0.1:1", reason="two words", code="")
    text = stream.getvalue().decode()
    assert ' info    started address=127.0.0.1:1 reason="two words" code=""\n' in text


def test_other_libraries_pass_the_same_door(stream: io.BytesIO) -> None:
    try:
        raise RuntimeError(f"boom {KEY}")
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("error with %s", KEY)
    logging.getLogger("asyncio").warning("slow")
    logging.getLogger("asyncio").info("not written")
    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert KEY.encode() not in stream.getvalue()
    assert first["error"] == f"RuntimeError: boom {REDACTED}"
    assert first["where"].rsplit(":", 1)[0].endswith("test_log.py")
    assert (first["logger"], first["level"]) == ("aiohttp.server", "error")
    assert (second["event"], second["level"]) == ("slow", "warning")


def test_an_error_without_a_traceback_has_no_place(stream: io.BytesIO) -> None:
    error = ValueError("bare")
    logging.getLogger("asyncio").error("x", exc_info=(ValueError, error, None))
    line = orjson.loads(stream.getvalue())
    assert (line["error"], line["where"]) == ("ValueError: bare", "")


class Broken(io.BytesIO):
    def write(self, data: object) -> int:
        raise BrokenPipeError


def test_a_log_nobody_can_write_does_not_end_the_call(stream: io.BytesIO) -> None:
    log.configure("info", "json", Broken())
    log.get().error("lost")
    stream.close()
    log.configure("info", "json", stream)
    log.get().error("lost too")
