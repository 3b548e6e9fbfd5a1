"""An address is remembered by a digest, and only if its person was given something."""

from pathlib import Path

from proxy.storage import starting_credits
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

PEPPER = bytes(range(32))


def test_an_address_is_remembered_once_its_person_was_given_something(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    digest = starting_credits.digest_of(PEPPER, "Ann@example.com")
    assert digest == starting_credits.digest_of(PEPPER, "ann@example.com")
    assert digest != starting_credits.digest_of(bytes(32), "ann@example.com")
    starting_credits.leave(connection, digest, 5)
    assert not starting_credits.is_had(connection, digest)
    connection.execute(
        "INSERT INTO top_up VALUES (1, 1, 9, 'starting credit', ?, ?)",
        (starting_credits.reference(5), NOW),
    )
    for _ in range(2):
        starting_credits.leave(connection, digest, 5)
        assert starting_credits.is_had(connection, digest)
    connection.close()
