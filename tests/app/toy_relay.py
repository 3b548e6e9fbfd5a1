"""A supervised relay whose children do next to nothing: what is left is the supervisor.

`python -m tests.app.toy_relay DIRECTORY WORKERS` writes DIRECTORY/address, and a JSON line to
DIRECTORY/events for all that happens to a child. A worker answers each line it is sent with
`<number> <process>`. A file in DIRECTORY changes behaviour: `bad-files` makes the settings
unreadable, `crash-<role>` ends a child at its start with that status, `wrong-program` fails the
preflight, `deaf` lets a worker stay when told to leave.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from proxy.app import upgrade
from proxy.app.children import Assignment, Role
from proxy.app.orders import Orders
from proxy.app.settings import Problem, Settings, SettingsError
from proxy.app.sockets import Listeners, bound_address, more, open_listeners
from proxy.app.supervisor import Supervisor
from proxy.edge import log


class Toy:
    """One process of the toy."""

    def __init__(self, directory: Path, workers: int) -> None:
        self.directory = directory
        self.settings = Settings(
            listen="127.0.0.1:0",
            operations_listen="127.0.0.1:0",
            console_listen="127.0.0.1:0",
            data_dir=str(directory),
            workers=workers,
            drain_seconds=30.0,
        )

    def event(self, what: str, **fields: object) -> None:
        line = json.dumps({"what": what, "process": os.getpid(), **fields})
        with (self.directory / "events").open("a") as events:
            events.write(line + "\n")

    def load(self) -> Settings:
        if (self.directory / "bad-files").exists():
            raise SettingsError([Problem(1, "bad", "mend it")])
        text = self.directory / "heartbeat"
        beat = int(text.read_text()) if text.exists() else self.settings.heartbeat_ms
        return Settings(**{**_fields(self.settings), "heartbeat_ms": beat})

    def announce(self, said: Mapping[str, Any]) -> None:
        self.event("announced", said=said.get("banner"))

    def main(self) -> int:
        log.configure("info", "json")
        inherited = upgrade.take_over(os.environ)
        if os.environ.pop(upgrade.PREFLIGHT, ""):
            return int((self.directory / "wrong-program").exists())
        if inherited is None:
            listeners = open_listeners(self.settings, {})
        else:
            listeners = inherited.listeners
            listeners.clients += more(listeners.clients, self.settings.workers)
        (self.directory / "address").write_text(str(bound_address(listeners.clients[0])[1]))
        supervisor = Supervisor(self.settings, self.load, listeners, self.announce, inherited)
        self.event("supervising", adopted=inherited is not None)
        outcome = supervisor.run()
        if isinstance(outcome, int):
            self.event("over", status=outcome)
            listeners.close()
            return outcome
        return self.child(outcome, listeners)

    def child(self, assignment: Assignment, listeners: Listeners) -> int:
        role = assignment.role
        self.event("born", role=role.value, number=assignment.number, slot=assignment.slot)
        crash = self.directory / f"crash-{role.value}"
        if crash.exists():
            os._exit(int(crash.read_text()))
        return uvloop.run(self.serve(assignment, listeners))

    async def serve(self, assignment: Assignment, listeners: Listeners) -> int:
        orders = await Orders.listen(assignment.link)
        role = assignment.role.value
        orders.on_reload = lambda settings: self.reload(assignment, orders, settings)
        if assignment.role is Role.KEEPER:
            await orders.follow_alive(lambda numbers: self.event("alive", numbers=numbers))
        servers: list[asyncio.Server] = []
        if assignment.role is Role.WORKER:
            answer = f"{assignment.number} {os.getpid()}\n".encode()
            for each in listeners.of_slot(assignment.slot, self.settings.workers):
                servers.append(
                    await asyncio.start_server(
                        lambda reader, writer: _answer(reader, writer, answer), sock=each.dup()
                    )
                )
        listeners.close()
        orders.tell(ready=True, banner="hello", tokenizers=[])
        order = await orders.leave()
        if (self.directory / "deaf").exists() and assignment.role is Role.WORKER:
            await asyncio.Event().wait()
        self.event("leaving", role=role, number=assignment.number, order=order.value,
                   deserted=orders.deserted)  # fmt: skip
        for server in servers:
            server.close()
        orders.close()
        return 0

    def reload(self, assignment: Assignment, orders: Orders, settings: Settings) -> None:
        self.event("reloaded", role=assignment.role.value, heartbeat=settings.heartbeat_ms)
        if assignment.role is Role.KEEPER:
            orders.tell(reloaded=not (self.directory / "bad-catalog").exists())


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes
) -> None:
    try:
        while await reader.readline():
            writer.write(answer)
    except ConnectionError:
        pass
    finally:
        writer.close()


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


if __name__ == "__main__":
    sys.exit(Toy(Path(sys.argv[1]), int(sys.argv[2])).main())
