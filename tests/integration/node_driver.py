"""The SDKs for Node, run by a process of their own that is told what to do line by line."""

import json
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests import clients, tree

ANSWER_SECONDS_MAX = 40.0


@dataclass(eq=False)
class NodeError(Exception):
    """What the SDK raised, by its class's name and fields."""

    name: str
    message: str
    status: int | None
    code: str | None
    kind: str | None
    request_id: str | None
    stack: str

    def __str__(self) -> str:
        return self.stack


class NodeSdks:
    """`with NodeSdks() as node: node.ask("chat_plain", url=..., body=...)`; see tests/node/ways.mjs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        node, sdks = clients.need_node(), clients.need("sdks")
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(node), "tests/node/driver.mjs", str(sdks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=tree.ROOT,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._log.close()

    def ask(self, way: str, **given: Any) -> Any:
        """What the SDK holds then; raises NodeError where it raised."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise AssertionError
        giving_up = threading.Timer(ANSWER_SECONDS_MAX, process.kill)
        giving_up.start()
        process.stdin.write(json.dumps({"way": way, **given}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        giving_up.cancel()
        if not line:
            self._log.seek(0)
            raise AssertionError(f"no answer to {way}: {self._log.read().decode()[-2000:]}")
        answer = json.loads(line)
        if "failure" in answer:
            told = answer["failure"]
            raise NodeError(
                told["class"],
                told["message"],
                told["status"],
                told["code"],
                told["type"],
                told["requestId"],
                told["stack"],
            )
        return answer["result"]
