"""What an operator should look at now, out of the figures of all processes.

Rules: an alert is a sentence that says what is wrong, and where to look; nothing is an alert that
is as it should be. This module must not know a page, nor how figures are gathered.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from proxy.edge.console.languages import Translator
from proxy.edge.exposition import Picture

FREE_BYTES_MIN: Final = 1 << 30
"""Room beside the ledger below which somebody should look; the relay itself stops later."""
OPEN: Final = 2
"""A breaker's state (edge/health.py)."""
NAMES_MAX: Final = 5


class Alert(NamedTuple):
    """`kind`: warn or bad. `url`: where to look, or empty."""

    kind: str
    text: str
    url: str = ""


def alerts(
    picture: Picture | None, unpriced: Collection[str], silent: Collection[str], _: Translator
) -> list[Alert]:
    """What is wrong; `unpriced`: models that are served and refused, `silent`: channels' names."""
    found = [] if picture is None else _of_processes(picture, _)
    if unpriced:
        names = ", ".join(sorted(unpriced)[:NAMES_MAX])
        found.append(
            Alert(
                "warn",
                _("Models without a price are refused: {names}", names=names),
                "/operator/models?unpriced=1",
            )
        )
    if silent:
        names = ", ".join(sorted(silent)[:NAMES_MAX])
        found.append(
            Alert("warn", _("Channels without a key: {names}", names=names), "/operator/channels")
        )
    return found


def _of_processes(picture: Picture, _: Translator) -> list[Alert]:
    found = []
    if not picture.keeper_up:
        found.append(Alert("bad", _("The keeper does not answer: no call is admitted.")))
    elif not picture.ready:
        found.append(Alert("bad", _("The relay is not ready: no call is admitted.")))
    if picture.merged.workers < picture.workers_wanted:
        text = _(
            "{here} of {wanted} workers answer.",
            here=picture.merged.workers,
            wanted=picture.workers_wanted,
        )
        found.append(Alert("bad", text))
    if picture.statistics is not None and picture.statistics.imbalance:
        found.append(
            Alert("bad", _("The ledger does not balance. Stop and verify it: sluice ledger verify"))
        )
    opened = sorted(name for name, state in picture.merged.breakers.items() if state == OPEN)
    if opened:
        names = ", ".join(opened[:NAMES_MAX])
        text = _("Channels that fail and are not asked for now: {names}", names=names)
        found.append(Alert("bad", text, "/operator/channels"))
    free = None if picture.storage is None else picture.storage.free_bytes
    if free is not None and free < FREE_BYTES_MIN:
        text = _("Only {megabytes} MB are left on the disk of the ledger.", megabytes=free >> 20)
        found.append(Alert("bad", text))
    return found
