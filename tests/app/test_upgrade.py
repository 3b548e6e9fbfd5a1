"""What passes from one program to the next; that it serves on is proved in test_supervisor.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

from proxy.app import upgrade
from proxy.app.children import Role
from proxy.app.sockets import bind, bound_address
from proxy.app.upgrade import PREFLIGHT, STATE, take_over

ROOT = Path(__file__).parents[2]

TWICE = """
import os, signal, socket, sys
from proxy.app.children import Child, Role
from proxy.app.sockets import Listeners, bind, bound_address
from proxy.app.upgrade import replace_program, take_over
found = take_over(os.environ)
if found is None:
    listeners = Listeners(clients=bind("127.0.0.1:0", 2), operations=bind("127.0.0.1:0", 1),
        console=bind("127.0.0.1:0", 1))
    print([bound_address(each)[1] for each in listeners.all()], os.getpid(), flush=True)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"said before")
    os.set_inheritable(theirs.fileno(), True)
    child = Child(Role.WORKER, 1, 7, 99, ours, 5, ready_at=1.5, leave_by=2.5, received=b"half")
    replace_program(listeners, [child], "127.0.0.1:0", 7)
print([bound_address(each)[1] for each in found.listeners.all()], os.getpid())
(child,) = found.children
print(child.role, child.slot, child.number, child.pid, child.adopted, child.ready_at,
    child.leave_by, child.received, child.link.recv(100), child.link.get_inheritable())
print(found.listen, found.last_number, "SLUICE_ADOPTED" in os.environ)
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())) != [])
os._exit(0)
"""


def test_sockets_links_and_children_pass_to_the_new_program(tmp_path: Path) -> None:
    program = tmp_path / "twice.py"
    program.write_text(TWICE)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after, child, rest, blocked = done.stdout.splitlines()
    assert before == after, "the same sockets in the same process"
    assert child == "worker 1 7 99 True 1.5 2.5 b'half' b'said before' False"
    assert rest == "127.0.0.1:0 7 False"
    assert blocked == "True", "a signal that comes meanwhile waits for the new handlers"


def test_a_program_that_was_just_started_takes_nothing_over() -> None:
    assert take_over({}) is None
    environ = {STATE: json.dumps({"process": 1}), "A": "b"}
    assert take_over(environ) is None
    assert environ == {"A": "b"}, "no child may take it for its own"


def test_a_state_is_read_whole() -> None:
    (listener,) = bind("127.0.0.1:0", 1)
    address = bound_address(listener)
    state = {
        "process": os.getpid(), "listen": "x:1", "last_number": 3, "passed": True,
        "clients": [listener.detach()], "operations": [], "demo": [], "children": [],
    }  # fmt: skip
    found = take_over({STATE: json.dumps(state)})
    assert found is not None
    assert (found.listeners.passed, found.last_number, found.listen) == (True, 3, "x:1")
    assert bound_address(found.listeners.clients[0]) == address
    assert found.listeners.console == [], "a program of before there was a console left none"
    found.listeners.close()
    assert Role.KEEPER not in {child.role for child in found.children}


def test_the_preflight_is_our_own_command_told_to_go_no_further() -> None:
    program = (
        "import os, sys\n"
        "from proxy.app import upgrade\n"
        f"if os.environ.get({PREFLIGHT!r}):\n"
        "    sys.exit(5 if 'NOTIFY_SOCKET' in os.environ else 3)\n"
        "print(upgrade.preflight().wait(20))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
    assert upgrade.command()[0] == sys.executable
