"""Somebody who uses the console hard: reports one after another, and exports of the whole log.

Rules: a process of its own, so that its work is nobody else's; it reads everything it asks for
(but what is on its way at the end), and any answer but 200 ends it. It works while its standard
input is open, and says at the end what it did; `whole` answers were read to their end. This module
must not know what is measured.
"""

import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

PIECE_BYTES = 1 << 16
NICENESS = 10
EXPORT = "/usage/export.csv"
PAGES = (
    "/",
    "/usage",
    "/usage?page=charts",
    "/wallet",
    "/models",
    "/operator",
    "/operator/traffic",
    "/operator/margin",
    "/operator/errors",
)


def read(port: int, cookie: str, path: str, stopping: threading.Event) -> int:
    """Ask for one page and read it, to its end or until told to stop; returns its bytes.

    Raises RuntimeError, OSError.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("GET", path, headers={"cookie": cookie})
        answer = connection.getresponse()
        size = 0
        while not stopping.is_set() and (piece := answer.read(PIECE_BYTES)):
            size += len(piece)
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return size


def main() -> None:
    """Read `{"port", "cookie", "processors"}` from the first line; work until the input ends."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    os.nice(NICENESS)
    os.sched_setaffinity(0, job["processors"])
    done: Counter[str] = Counter()
    problems: list[str] = []
    stopping = threading.Event()

    def work(paths: tuple[str, ...]) -> None:
        while not stopping.is_set():
            for path in paths:
                began = time.monotonic()
                try:
                    size = read(job["port"], job["cookie"], path, stopping)
                except (OSError, RuntimeError, http.client.HTTPException) as error:
                    problems.append(f"{path}: {type(error).__name__}: {error}")
                    return
                done[f"{path} answers"] += 1
                done[f"{path} whole"] += not stopping.is_set()
                done[f"{path} bytes"] += size
                done[f"{path} ms"] += round((time.monotonic() - began) * 1000)

    threads = [threading.Thread(target=work, args=(paths,)) for paths in (PAGES, (EXPORT,))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()
    json.dump({"done": dict(done), "problems": problems}, sys.stdout)


if __name__ == "__main__":
    main()
