"""Recompute every charge of a ledger from its rows alone: `python recompute.py sluice.db`.

Written from README.md and the schema, without a line of the relay: it says what is wrong.
"""

import json
import sqlite3
import sys
from fractions import Fraction
from math import ceil

READ = ("cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input",
        "cache_read_audio", "cache_read_image")  # fmt: skip
WRITTEN = ("output", "audio_output", "image_output")
CACHED = ("cache_read", "cache_read_audio", "cache_read_image")

db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
db.row_factory = sqlite3.Row
prices = {(row["model"], row["version"]): dict(row) for row in db.execute("SELECT * FROM price")}
checked = 0
for call in db.execute("SELECT * FROM call WHERE charge + overrun + forgiven > 0"):
    price = prices[call["model"], call["price_version"]]
    prompt = call["input_uncached"] + sum(call[kind] for kind in READ)
    each = price | {"input_uncached": price["input"]}
    for tier in json.loads(price["tiers"]):
        if prompt > tier["over"]:
            each |= tier | {"input_uncached": tier["input"]}
    tokens = sum(call[kind] * each[kind] for kind in ("input_uncached", *READ, *WRITTEN))
    if price["formula"] == "ratio":
        cached = sum(call[kind] for kind in CACHED)
        written = sum(call[kind] for kind in WRITTEN)
        weighed = cached * price["cache_ratio"] + written * price["completion_ratio"]
        tokens = Fraction((prompt - cached) * 10**6 + weighed) * price["model_ratio"] * 2 / 10**3
    image = json.loads(price["image_variants"]).get(call["variant"])
    image = Fraction(price["image"], 10**6) if image is None else image
    per_million = tokens + call["characters"] * price["character"]
    other = Fraction(per_million) / 10**6 + call["images"] * image
    other += Fraction(call["audio_ms"] * price["audio_hour"], 3_600_000)
    other += call["searches"] * price["search"] + call["calls"] * price["call"]
    costs = ceil(other * Fraction(call["multiplier"], 10**6))
    if costs != call["charge"] + call["overrun"] + call["forgiven"]:
        print(f"call {call['id']} of {call['model']} costs {costs}")
    checked += 1
# What a wallet has is what came in, less what its calls were charged: not one transfer is asked.
history = """SELECT sum(amount) FROM (
    SELECT amount FROM top_up WHERE user_id = :user
    UNION ALL SELECT amount FROM wallet_change WHERE user_id = :user
    UNION ALL SELECT -charge FROM call WHERE user_id = :user
    UNION ALL SELECT -charge FROM rollup WHERE user_id = :user)"""
for account in db.execute("SELECT id, balance FROM account WHERE id % 8 = 1"):
    user = account["id"] // 8
    came = db.execute(history, {"user": user}).fetchone()[0] or 0
    if came != account["balance"]:
        print(f"wallet {user} has {account['balance']}, its history says {came}")
over = """SELECT call_id, sum(amount) AS back, coalesce((SELECT amount FROM transfer
    WHERE event_id = call_id AND kind = 'charge'), 0) AS charged
    FROM wallet_change WHERE kind = 'refund' GROUP BY call_id"""
for call in db.execute(over):
    if call["back"] > call["charged"]:
        print(f"call {call['call_id']} was charged {call['charged']} and got {call['back']} back")
print(f"{checked} charges recomputed")
