"""`@copilotkit/aimock`, an upstream nobody here wrote: many providers' answers, and faults on demand.

`with Aimock(tmp_path, fixtures) as mock:` serves each of them on one port. This module must not
know the relay.
"""

import json
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import clients
from tests.integration.relay_process import free_ports

START_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05


class Aimock:
    """A running one; `fixtures` are its own: what to match, what to answer, how to fail."""

    def __init__(self, directory: Path, fixtures: Sequence[Mapping[str, Any]]) -> None:
        (self.port,) = free_ports(1)
        self._fixtures = directory / "fixtures.json"
        self._fixtures.write_text(json.dumps({"fixtures": list(fixtures)}))
        self._log = directory / "aimock.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        node = clients.need_node()
        program = clients.need("sdks") / "node_modules/@copilotkit/aimock/dist/cli.js"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(node), str(program), "--port", str(self.port), "--fixtures",
                 str(self._fixtures), "--log-level", "warn"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                self._ask("GET", "/__aimock/chaos")
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise AssertionError(f"aimock: {self._log.read_text()[-2000:]}") from None
            time.sleep(POLL_SECONDS)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def fail(self, **rates: float) -> None:
        """From now on fail like this: `dropRate`, `malformedRate`, `disconnectRate`,
        `rateLimitRate` (0 to 1), `latencyMs`; nothing at all: as well as it can.
        """
        self._ask("POST", "/__aimock/chaos", rates)

    def asked(self) -> list[dict[str, Any]]:
        """Every request it remembers, oldest first."""
        found: list[dict[str, Any]] = self._ask("GET", "/__aimock/journal")
        return found

    def _ask(self, method: str, path: str, document: object = None) -> Any:
        data = None if document is None else json.dumps(document).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.origin}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")
