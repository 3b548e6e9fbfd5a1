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


def test_a_month_that_an_address_has_had_ends_when_it_ends(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    day = 86_400
    end = (int(NOW) // day + 20) * day + 5
    for plan, fee in (("gift", 0), ("paid", 1), ("over", 0)):
        connection.execute(
            "INSERT INTO plan (name, monthly_fee, monthly_credit) VALUES (?, ?, 2)", (plan, fee)
        )
        until = int(NOW) if plan == "over" else end
        connection.execute("INSERT INTO subscription VALUES (1, ?, 1, 1, ?)", (plan, until))
    for number in range(2):
        starting_credits.leave_months(connection, PEPPER, "Ann@example.com", 1, NOW - number)
    (kept,) = connection.execute("SELECT count(*) FROM starting_credit_given").fetchone()
    assert kept == 2, "the one that runs, and what ran a second ago"
    starting_credits.take_months(connection, PEPPER, "bob@example.com", 2, NOW)
    starting_credits.take_months(connection, bytes(32), "ann@example.com", 2, NOW)
    starting_credits.take_months(connection, PEPPER, "ann@example.com", 2, end + 2.0 * day)
    query = "SELECT plan, anchor, next_at FROM subscription WHERE user_id = 2"
    assert connection.execute(query).fetchall() == []
    starting_credits.take_months(connection, PEPPER, "ann@example.com", 2, NOW)
    assert ("gift", end - 5 + day, end - 5 + day) in connection.execute(query).fetchall()
    assert "paid" not in [row[0] for row in connection.execute(query)]
    connection.close()
