"""The console of a relay with one process: the same program started anew, told to be that.

Rules: a variable of the environment names the descriptors, standard input has the settings; then
it obeys the lines of its link as a supervisor's child does, and leaves when that ends: however its
parent died, no console may be left that holds the address. It opens nothing for writing. This
module must not know who starts it, nor when.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import uvloop

from proxy.app.children import TASK, become_child
from proxy.app.console_site import ConsoleSite, give_way
from proxy.app.orders import Orders
from proxy.app.settings import Settings
from proxy.app.sockets import adopt
from proxy.edge import log
from proxy.storage.secrets import SecretError


class OrphanError(Exception):
    """There is nobody to be a console for."""


@dataclass(frozen=True, slots=True)
class Task:
    """What this process is to be; `link` is its end of the socket pair."""

    link: socket.socket
    listeners: Sequence[socket.socket]
    settings: Settings


def take(environ: MutableMapping[str, str]) -> Task:
    """What the variable says, which goes away: JSON of `parent`, a process id, and descriptors.

    Raises OrphanError if who said it is gone, CommandError for what is no listening socket.
    """
    said = json.loads(environ.pop(TASK))
    if said["parent"] != os.getppid():
        raise OrphanError("the relay that wanted a console is gone")
    settings = Settings.read(json.load(sys.stdin))
    os.set_inheritable(said["link"], False)  # noqa: FBT003 - the signature of the library
    listeners = [adopt(each) for each in said["listeners"]]
    return Task(socket.socket(fileno=said["link"]), listeners, settings)


def main(environ: MutableMapping[str, str]) -> NoReturn:
    """Be the console that `environ` tells of, until told to leave."""
    try:
        task = take(environ)
    except OrphanError:
        os._exit(1)
    become_child()
    give_way()
    log.configure(task.settings.log_level, task.settings.log_format)
    try:
        status = uvloop.run(_show(task))
    except (SecretError, OSError) as error:
        log.get().error("the console cannot start", reason=str(error), remedy=_remedy(error))
        status = 1
    # A thread may still be reading for a report that nobody waits for any more.
    os._exit(status)


def _remedy(error: Exception) -> str:
    return error.remedy if isinstance(error, SecretError) else "look at what the reason names"


async def _show(task: Task) -> int:
    orders = await Orders.listen(task.link)
    site = ConsoleSite(task.settings)
    try:
        await site.start(task.listeners)

        def reload(wanted: Settings) -> None:
            log.configure(wanted.log_level, wanted.log_format)
            site.reload(wanted)

        orders.on_reload = reload
        orders.tell(ready=True)
        await orders.leave()
    finally:
        for each in task.listeners:
            each.close()
        stopping = asyncio.ensure_future(site.stop())
        await asyncio.wait([stopping], timeout=0 if orders.deserted else None)
        orders.close()
    return 0
