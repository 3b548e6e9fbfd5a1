"""An independent check of the books: the database file, the clients' log, the upstream's log.

`python -m tests.integration.checker DATABASE [--clients LOG] [--upstream LOG] [--decisions LOG]`
reads nothing else, and imports nothing of the relay: prices, ids and balances are worked out
here again from the rows alone. The names are those of the invariants: I1 sums, I2 one end and at
most one charge, I3 nothing charged without usage and content, I4 content means a row and a
terminal frame means a charge, I5 charges recompute, I6 nothing below zero, I7 refunds, I12 the
client has a prefix of what the upstream sent. The decision log is replayed against a wallet that
knows nothing but additions.
"""

import argparse
import json
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpe_openai

Row = dict[str, Any]

WALLET, REVENUE, OVERRUN, FORGIVEN, COST, PAYABLE, FUNDING = range(1, 8)
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_SERVED = {"complete", "cut_for_balance"}
_INPUTS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h")
_PRICED = (*_INPUTS, "output", "audio_input", "audio_output")


@dataclass(slots=True)
class Findings:
    """What does not add up, and what was counted on the way."""

    problems: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def expect(self, holds: bool, text: str) -> None:
        """Note `text` unless it holds."""
        if not holds:
            self.problems.append(text)


class Books:
    """The tables of one file, read in one transaction."""

    def __init__(self, path: Path) -> None:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("BEGIN")
            self.transfers = _rows(connection, "transfer")
            self.balances = {row["id"]: row["balance"] for row in _rows(connection, "account")}
            self.calls = {row["id"]: row for row in _rows(connection, "call")}
            self.open_calls = {row["id"]: row for row in _rows(connection, "open_call")}
            self.prices = {
                (row["model"], row["version"]): row for row in _rows(connection, "price")
            }
            self.keys = {row["id"]: row for row in _rows(connection, "key")}
            self.spends = {row["key_id"]: row for row in _rows(connection, "key_spend")}
            self.top_ups = _rows(connection, "top_up")
        finally:
            connection.close()
        self.by_reference: dict[str, list[Row]] = defaultdict(list)
        for row in self.calls.values():
            if row["client_reference"]:
                self.by_reference[row["client_reference"]].append(row)
        self.posted: dict[int, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in self.transfers:
            self.posted[row["event_id"]][row["kind"]].append(row)


def _rows(connection: sqlite3.Connection, table: str) -> list[Row]:
    return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def price_of(usage: Mapping[str, int], price: Mapping[str, Any], multiplier: int) -> int:
    """What usage costs in nano-USD, from fractions: nothing is rounded but the end, up."""
    million = 1_000_000
    if price["formula"] == "ratio":
        weighed = (
            Fraction(usage["input_uncached"] + usage["cache_write_5m"] + usage["cache_write_1h"])
            + usage["audio_input"]
            + Fraction(price["cache_ratio"], million) * usage["cache_read"]
            + Fraction(price["completion_ratio"], million)
            * (usage["output"] + usage["audio_output"])
        )
        amount = Fraction(2 * 10**9, million) * Fraction(price["model_ratio"], million) * weighed
    else:
        amount = Fraction(price["input"], million) * usage["input_uncached"]
        for kind in _PRICED[1:]:
            amount += Fraction(price[kind], million) * usage[kind]
    amount += Fraction(price["image"], million) * usage["images"]
    amount += Fraction(price["character"], million) * usage["characters"]
    amount += Fraction(price["call"]) * usage["calls"]
    amount *= Fraction(multiplier, million)
    return -(-amount.numerator // amount.denominator)


def outward_id(call_id: int) -> str:
    """The id as clients see it."""
    return "req_" + "".join(_DIGITS[call_id >> 5 * place & 31] for place in range(12, -1, -1))


def check_books(books: Books, found: Findings, *, quiet: bool = True) -> None:
    """I1, I2, I3, I5, I6 and I7 from the file alone; `quiet`: no call should be open."""
    sums: Counter[int] = Counter()
    for row in books.transfers:
        found.expect(row["amount"] > 0, f"I1: transfer {row} moves nothing")
        sums[row["debit"]] -= row["amount"]
        sums[row["credit"]] += row["amount"]
    found.expect(sum(sums.values()) == 0, "I1: postings do not sum to zero")
    for account in sums.keys() | books.balances.keys():
        stored = books.balances.get(account)
        found.expect(stored == sums[account], f"I1: {account} stores {stored}, not {sums[account]}")
        if account & 7 == WALLET:
            found.expect(sums[account] >= 0, f"I6: wallet {account >> 3} is at {sums[account]}")
    found.expect(not (quiet and books.open_calls), f"I2: {len(books.open_calls)} calls are open")
    both = books.open_calls.keys() & books.calls.keys()
    found.expect(not both, f"I2: {both} are open and ended")
    for call in books.calls.values():
        _check_call(books, call, found)
    spent = Counter(dict.fromkeys(books.keys, 0))
    for call in books.calls.values():
        spent[call["key_id"]] += call["charge"]
    for key_id, key in books.keys.items():
        if key["budget"] is not None and key["budget_period"] == "total":
            found.expect(
                spent[key_id] <= key["budget"],
                f"I6: key {key_id} has spent {spent[key_id]} of {key['budget']}",
            )
            stored = books.spends.get(key_id, {"spent": 0})["spent"]
            found.expect(stored == spent[key_id], f"I6: key {key_id} stores {stored} as spent")
    refunded: Counter[int] = Counter()
    for row in books.transfers:
        if row["kind"] == "refund":
            refunded[row["refers_to"]] += row["amount"]
    for event, amount in refunded.items():
        charged = sum(row["amount"] for row in books.posted[event]["charge"])
        found.expect(amount <= charged, f"I7: {event} was charged {charged}, refunded {amount}")
    found.figures["calls"] = len(books.calls)
    found.figures["charged"] = sum(call["charge"] for call in books.calls.values())
    found.figures["overrun"] = sum(call["overrun"] for call in books.calls.values())
    found.figures["forgiven"] = sum(call["forgiven"] for call in books.calls.values())


def _check_call(books: Books, call: Row, found: Findings) -> None:
    name, posted = call["id"], books.posted[call["id"]]
    charges = posted["charge"]
    found.expect(len(charges) <= 1, f"I2: call {name} has {len(charges)} charges")
    for kind in ("charge", "overrun", "forgiven"):
        total = sum(row["amount"] for row in posted[kind])
        found.expect(total == call[kind], f"I2: call {name}: {kind} {call[kind]}, posted {total}")
    for row in charges:
        rightly = row["debit"] == call["user_id"] << 3 | WALLET and row["credit"] == REVENUE
        found.expect(rightly, f"I2: call {name} moved {row['debit']} to {row['credit']}")
    if call["charge"]:
        used = sum(call[kind] for kind in (*_PRICED, "images", "characters", "calls"))
        found.expect(used > 0, f"I3: call {name} was charged without usage")
        found.expect(call["delivered_bytes"] > 0, f"I3: call {name} was charged for no bytes")
    total = call["charge"] + call["overrun"] + call["forgiven"]
    if total:
        price = books.prices.get((call["model"], call["price_version"]))
        if price is None:
            found.problems.append(f"I5: call {name} has no price")
            return
        expected = price_of(call, price, call["multiplier"])
        found.expect(total == expected, f"I5: call {name} was priced {total}, not {expected}")
    found.expect(call["balance_after"] >= 0, f"I6: call {name} left {call['balance_after']}")


def check_clients(
    books: Books, clients: list[Row], upstream: Mapping[str, Row], found: Findings
) -> None:
    """I2, I3, I4 and I12: what clients got, against the rows and what the upstream would send.

    Delivered means received here: whatever left the relay's machine arrives, also after it died.
    """
    for client in clients:
        rows = books.by_reference.get(client["name"], [])
        sent = upstream.get(client["name"])
        name = client["name"]
        found.figures["clients"] += 1
        found.expect(len(rows) <= 1, f"I2: {name} has {len(rows)} rows")
        row = rows[0] if rows else None
        if row is not None and client["id"] is not None:
            same = outward_id(row["id"]) == client["id"]
            found.expect(same, f"I2: {name} was told {client['id']}, its row is {row['id']}")
        planned = "" if sent is None else sent["text"]
        prefix = planned.startswith(client["text"])
        found.expect(prefix, f"I12: {name} received {client['text'][:80]!r}, not a prefix")
        if client["text"]:
            found.figures["with content"] += 1
            found.expect(row is not None, f"I4: {name} received content and has no row")
        if client["terminal"]:
            _check_complete(books, client, row, sent, found)
        elif row is not None:
            _check_partial(books, client, row, sent, found)


def _check_complete(
    books: Books, client: Row, row: Row | None, sent: Row | None, found: Findings
) -> None:
    """A terminal frame arrived: the whole text did, and exactly its price is in the ledger."""
    name = client["name"]
    found.figures["terminal frames"] += 1
    if row is None or sent is None:
        found.problems.append(f"I4: {name} received its terminal frame and has no row")
        return
    found.expect(row["verdict"] == "complete", f"I4: {name} is complete, its row {row['verdict']}")
    found.expect(client["text"] == sent["text"], f"I12: {name} ended before its text did")
    found.expect(client["error"] is None, f"I12: {name} ended well after {client['error']}")
    expected = _expected(books, row, sent["input"], sent["tokens"], found, name)
    if row["overrun"] == 0:
        charges = [entry["amount"] for entry in books.posted[row["id"]]["charge"]]
        exact = charges == ([expected] if expected else [])
        found.expect(exact, f"I4: {name} should be charged {expected} once, not {charges}")
        found.figures["charged exactly once"] += exact
    else:
        total = row["charge"] + row["overrun"]
        found.expect(total == expected, f"I4: {name} should cost {expected}, not {total}")


def _check_partial(books: Books, client: Row, row: Row, sent: Row | None, found: Findings) -> None:
    """No terminal frame arrived: the charge is at most that of what did."""
    name = client["name"]
    found.figures["without terminal frame"] += 1
    if not row["charge"]:
        return
    found.figures["charged in part"] += 1
    found.expect(bool(client["text"]), f"I3: {name} was charged {row['charge']} for nothing")
    if sent is None:
        found.problems.append(f"I3: {name} was charged, its upstream was never asked")
        return
    delivered = len(_encoding().encode(client["text"]))
    most = _expected(books, row, sent["input"], delivered, found, name)
    within = row["charge"] <= most
    found.expect(
        within,
        f"overcharged: {name} received {delivered} tokens of {sent['tokens']} and was charged "
        f"{row['charge']} ({row['verdict']}, {row['source']}, output {row['output']}, input "
        f"{row['input_uncached']}), not at most {most}; {row['delivered_bytes']} bytes in "
        f"{row['delivered_events']} events left the relay, {client['bytes']} bytes arrived",
    )


def _expected(
    books: Books, row: Row, input_tokens: int, output: int, found: Findings, name: str
) -> int:
    usage = dict.fromkeys((*_PRICED, "images", "characters"), 0)
    usage |= {"input_uncached": input_tokens, "output": output, "calls": 1}
    price = books.prices.get((row["model"], row["price_version"]))
    if price is None:
        found.problems.append(f"I5: {name} has no price")
        return 0
    return price_of(usage, price, row["multiplier"])


def _encoding() -> Any:
    return bpe_openai.get_encoding("o200k_base")


@dataclass(slots=True)
class _Account:
    """Money that can be set aside: a wallet, or a key's budget (None: without bound)."""

    left: int | None
    held: int = 0

    @property
    def free(self) -> int | None:
        return None if self.left is None else self.left - self.held

    def take(self, amount: int) -> None:
        if self.left is not None:
            self.left -= amount


def replay(books: Books, decisions: list[Row], found: Findings) -> None:
    """Take every decision again: refused only what was not there, granted only what was."""
    wallets = {
        user: _Account(sum(row["amount"] for row in books.top_ups if row["user_id"] == user))
        for user in {row["user_id"] for row in books.top_ups}
    }
    purses = {key: _Account(row["budget"]) for key, row in books.keys.items()}
    open_holds: dict[int, tuple[_Account, _Account, int]] = {}
    first_holds: dict[int, int] = {}
    for line in decisions:
        call = line["call"]
        if line["what"] == "admit":
            wallet, purse = wallets[line["user"]], purses[line["key"]]
            free = _least(wallet.free, purse.free)
            if line["held"] is None:
                found.figures["refused"] += 1
                by_money = line["reason"] in {"wallet", "key_budget"}
                found.expect(by_money, f"call {call} was refused for {line['reason']}")
                found.expect(
                    line["hold"] > free, f"call {call} was refused {line['hold']} of {free} free"
                )
                continue
            found.figures["admitted"] += 1
            found.expect(line["held"] <= free, f"call {call} holds {line['held']} of {free} free")
            found.expect(
                line["held"] == line["hold"], f"call {call} asked {line['hold']}: {line['held']}"
            )
            wallet.held += line["held"]
            purse.held += line["held"]
            open_holds[call] = (wallet, purse, line["held"])
            first_holds[call] = line["held"]
            continue
        wallet, purse, hold = open_holds[call]
        free = _least(wallet.free, purse.free)
        if line["what"] == "extend":
            granted = line["granted"]
            found.figures["extended" if granted == line["asked"] else "not extended"] += 1
            right = min(line["asked"], max(0, free))
            found.expect(granted == right, f"call {call} was granted {granted}, not {right}")
            wallet.held += granted
            purse.held += granted
            open_holds[call] = (wallet, purse, hold + granted)
            continue
        del open_holds[call]
        wallet.held -= hold
        purse.held -= hold
        right = min(line["charge"], _least(wallet.free, purse.free))
        charged = line["charged"]
        found.expect(charged == right, f"call {call} was charged {charged}, not {right}")
        wallet.take(charged)
        purse.take(charged)
        _check_settled(books, line, wallet, first_holds[call], found)
    found.expect(not open_holds, f"I2: {len(open_holds)} admitted calls never settled")
    for user, wallet in wallets.items():
        stored = books.balances[user << 3 | WALLET]
        found.expect(
            wallet.left == stored, f"user {user} has {stored}, decisions say {wallet.left}"
        )


def _check_settled(
    books: Books, line: Row, wallet: _Account, first_hold: int, found: Findings
) -> None:
    call = line["call"]
    balance = wallet.left or 0
    found.expect(balance >= 0 and wallet.held <= balance, f"I6: {balance} after call {call}")
    found.expect(
        line["balance_after"] == balance, f"I6: {line['balance_after']} after {call}, not {balance}"
    )
    row = books.calls.get(call)
    if row is None:
        found.problems.append(f"I2: call {call} was settled and has no row")
        return
    found.expect(row["charge"] == line["charged"], f"I2: call {call} stores {row['charge']}")
    found.expect(row["balance_after"] == balance, f"I6: call {call} stores {row['balance_after']}")
    found.expect(row["verdict"] in _SERVED, f"call {call} was served and ended {row['verdict']}")
    found.figures[row["verdict"]] += 1
    if row["verdict"] == "complete" and first_hold:
        tenths = 10 * (row["charge"] + row["overrun"]) // first_hold
        found.figures["least price, tenths of a hold"] = min(
            tenths, found.figures.get("least price, tenths of a hold", tenths)
        )
        found.figures["greatest price, tenths of a hold"] = max(
            tenths, found.figures["greatest price, tenths of a hold"]
        )


def _least(*amounts: int | None) -> int:
    return min(amount for amount in amounts if amount is not None)


def read_log(path: Path) -> Iterator[Row]:
    """Lines of JSON; a last line without its end was torn by a kill and is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def check(
    database: Path,
    clients: Path | None = None,
    upstream: Path | None = None,
    decisions: Path | None = None,
    *,
    quiet: bool = True,
) -> Findings:
    """Check everything the given files allow."""
    books, found = Books(database), Findings()
    check_books(books, found, quiet=quiet)
    if clients is not None and upstream is not None:
        asked = {line["name"]: line for line in read_log(upstream) if line["state"] == "asked"}
        check_clients(books, list(read_log(clients)), asked, found)
    if decisions is not None:
        replay(books, list(read_log(decisions)), found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("database", type=Path)
    for name in ("clients", "upstream", "decisions"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    found = check(given.database, given.clients, given.upstream, given.decisions)
    for problem in found.problems:
        print(problem)
    print(json.dumps({"problems": len(found.problems), **found.figures}))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
