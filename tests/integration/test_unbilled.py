"""The benchmark's relay without money starts as the one with money does, and serves no rows."""

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.relays import start_unbilled


def test_it_takes_the_flags_of_the_relay_it_is_compared_with(tmp_path: Path) -> None:
    trusted = ssl.get_default_verify_paths()
    mock: Any = SimpleNamespace(port=9, tls_port=9, authority=trusted.openssl_cafile)
    relay = start_unbilled(tmp_path, mock)
    try:
        assert relay.rows() == 0
        assert relay.billed() is None
        assert "sluice_" in relay.metrics()
    finally:
        relay.stop()
