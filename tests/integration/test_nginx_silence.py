"""A plain call that says nothing for 90 s, through nginx: beyond every default of 60 s.

In a file of its own, so that the other tests go on beside it: this one sleeps, by its nature.
"""

import faulthandler
import threading
from pathlib import Path

import pytest

from tests import programs
from tests.edge.harness import CHAT, body, plain_answer
from tests.integration.nginx_process import NginxProcess
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import Pause, plain_script

SILENT_SECONDS = 90.0
CLIENT_SECONDS_MAX = 150.0


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_plain_call_may_be_silent_for_90_seconds(tmp_path: Path) -> None:
    programs.need("nginx")
    faulthandler.cancel_dump_traceback_later()  # so long a silence is meant
    with (
        ScriptedUpstream([Pause("thought"), *plain_script(plain_answer())]) as upstream,
        RelayProcess(
            tmp_path / "relay", [UpstreamAt("o", "openai", upstream.base_url, {"m": "up-m"})]
        ) as relay,
        NginxProcess(tmp_path / "nginx", relay.port) as nginx,
        RawClient(nginx.port, tls=nginx.trust(), seconds_max=CLIENT_SECONDS_MAX) as client,
    ):
        account = relay.account()
        client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=account.key))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        thinking = threading.Timer(SILENT_SECONDS, upstream.release, ["thought"])
        thinking.start()
        response = client.read_response()
        thinking.cancel()
        assert (response.status, response.body) == (200, plain_answer())
        (row,) = relay.usage(account)
        assert row["verdict"] == "complete"
