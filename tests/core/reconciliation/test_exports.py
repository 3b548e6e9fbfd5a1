"""Exports of the providers are read as they come; whatever else comes is refused by name."""

import json

import pytest

from proxy.core.reconciliation import exports
from proxy.core.reconciliation.exports import Export, ExportError, read_export
from proxy.core.reconciliation.records import Their

DAY = 20_542  # 2026-03-30


def test_openai_dashboard() -> None:
    found = read_export(
        b"start_time,end_time,start_time_iso,num_model_requests,user_id,model,batch,input_tokens,"
        b"output_tokens,input_cached_tokens\n"
        b'1774828800,1774915200,2026-03-30T00:00:00+00:00,5,,gpt-4o,False,"1,000",500,800\n'
    )
    assert found.rows == [
        Their(2, None, DAY, "gpt-4o", input=1000, cached=800, output=500, requests=5)
    ]
    assert not found.by_request
    assert found.mapping["time"] == "start_time_iso"


def test_openai_usage_api() -> None:
    document = {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": 1774828800,
                "results": [
                    {"input_tokens": 10, "output_tokens": 5, "num_model_requests": 2, "model": "m",
                     "input_cached_tokens": 0, "batch": None},
                    "no row",
                ],
            },
            17,
        ],
    }  # fmt: skip
    found = read_export(json.dumps(document).encode())
    assert found.rows == [Their(1, None, DAY, "m", input=10, cached=0, output=5, requests=2)]


def test_openai_costs_say_an_amount_beside_its_currency() -> None:
    document = {"data": [{"date": "2026-03-30", "amount": {"value": 0.06, "currency": "usd"}}]}
    (row,) = read_export(json.dumps(document).encode()).rows
    assert (row.cost, row.input) == (60_000_000, None)


def test_anthropic_console() -> None:
    found = read_export(
        b"usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
        b"usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        b"usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\r\n"
        b"2026-03-30,claude-x,key,Default,standard,200k,100,20,3,4000,50\r\n\r\n"
    )
    assert found.rows == [
        Their(2, None, DAY, "claude-x", input=4123, cached=4000, written=23, output=50)
    ]


def test_anthropic_usage_report() -> None:
    document = {
        "data": [
            {
                "starting_at": "2026-03-30T00:00:00Z",
                "results": [
                    {
                        "uncached_input_tokens": 15,
                        "cache_creation": {
                            "ephemeral_1h_input_tokens": 1,
                            "ephemeral_5m_input_tokens": 2,
                            "deeper": {"still": {"deeper": 9}},
                        },
                        "cache_read_input_tokens": 4,
                        "output_tokens": 5,
                        "model": "c",
                    }
                ],
            }
        ]
    }
    (row,) = read_export(json.dumps(document).encode()).rows
    assert row == Their(1, None, DAY, "c", input=22, cached=4, written=3, output=5)


def test_anthropics_input_tokens_are_without_the_cached_ones() -> None:
    body = b"date,model,input_tokens,cache_read_input_tokens,output_tokens\n2026-03-30,c,5,7,1\n"
    (row,) = read_export(body).rows
    assert (row.input, row.cached) == (12, 7)


def test_openrouter_activity() -> None:
    found = read_export(
        b"generation_id,created_at,cost_total,tokens_prompt,tokens_completion,tokens_cached,"
        b"model_permaslug\n"
        b"gen-1,2026-03-30 03:46:57.713,0.0123456789,10,13,,openai/gpt-oss\n"
        b"gen-2,1774828800000,1e-05,10,13,,openai/gpt-oss\n"
    )
    assert found.by_request
    assert found.rows[0] == Their(
        2, "gen-1", DAY, "openai/gpt-oss", input=10, output=13, cost=12_345_679
    )
    assert (found.rows[1].cost, found.rows[1].day) == (10_000, DAY)


def test_a_list_a_single_object_and_lines_of_json() -> None:
    row = {"request_id": "r", "prompt_tokens": 3.0, "completion_tokens": 4}
    text = json.dumps(row)
    for body in (text, f"[{text}]", f"{text}\n\n{text}\n"):
        found = read_export(body.encode())
        assert found.rows[0] == Their(1, "r", None, "", input=3, output=4)
    assert read_export(f"{text}\n{text}".encode()).rows[1].line == 2


def test_other_separators_and_codings() -> None:
    for sign in ";\t":
        body = "request_id,time,output_tokens\nr,2026-03-30,5".replace(",", sign)
        for coded in (body.encode("utf-8-sig"), body.encode("utf-16")):
            assert read_export(coded).rows == [Their(2, "r", DAY, "", output=5)]


def test_columns_are_what_the_operator_says() -> None:
    body = b"when,who,read,wrote\n2026-03-30,m,1,2\n"
    told = {"time": "when", "model": "who", "input": "read", "output": "wrote"}
    found = read_export(body, told)
    assert found.rows == [Their(2, None, DAY, "m", input=1, output=2)]
    assert found.columns == ("when", "who", "read", "wrote")
    with pytest.raises(ExportError, match="no column 'there'"):
        read_export(body, told | {"cost": "there"})
    with pytest.raises(ExportError, match=r"\(when, who, read, wrote\); say which column"):
        read_export(body)


LINES = [
    ("r,2026-03-30,-5,", "its output '-5' is no count"),
    ("r,2026-03-30,5.5,", "its output '5.5' is no count"),
    ("r,2026-03-30,9999999999999999,", "its output is above 2^53"),
    ("r,2026-03-30,1,NaN", "its cost 'NaN' is no amount"),
    ("r,2026-03-30,1,$1e99", "its cost '1e99' is no amount"),
    ("r,2026-03-30,1,=1+1", "its cost '=1+1' is no amount"),
    ("r,yesterday,1,", "its time 'yesterday' is not like 2026-01-31 or 1769817600"),
    (",,1,", "it has neither a request id nor a time"),
    ("r" * 1001 + ",,1,", "its request_id is longer than 1000 characters"),
]


@pytest.mark.parametrize(("line", "problem"), LINES)
def test_a_line_that_is_not_understood_is_named_and_the_others_are_read(
    line: str, problem: str
) -> None:
    body = f"request_id,time,output_tokens,cost\n{line}\nfine,2026-03-30,1,2.50\n"
    found = read_export(body.encode())
    assert found.problems == ((2, problem),)
    assert found.left_out == 1
    assert [row.request_id for row in found.rows] == ["fine"]
    assert found.rows[0].cost == 2_500_000_000


def test_short_lines_have_empty_cells() -> None:
    (row,) = read_export(b"request_id,time,output_tokens,cost\nr\n").rows
    assert row == Their(2, "r", None, "")


REFUSED = [
    (b"", "the file is empty"),
    (b" \n \n", "the file is empty"),
    (b",,\n,,\n", "no usage was found"),
    (b"\xff\xfe\x00", "not text in UTF-8"),
    (b"\x89PNG\xff", "not text in UTF-8"),
    (b'request_id,cost\n"open', "line 2 is no CSV"),
    (b"request_id,cost\n" + b"x" * 200_000, "line 2 is no CSV"),
    (b",".join([b"a"] * 201), "more than 200 columns"),
    (b"[1, 2", "line 1 is no JSON"),
    (b"{]", "line 1 is no JSON"),
    (b"[]", "no usage was found"),
    (b"time,note\n2026-03-30,x", "no usage was found"),
    (b"output_tokens\n5", "no usage was found"),
]


@pytest.mark.parametrize(("body", "problem"), REFUSED)
def test_what_is_no_export_is_refused_by_name(body: bytes, problem: str) -> None:
    with pytest.raises(ExportError, match=problem):
        read_export(body)


def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"r,2026-03-30,5\n"
    body = b"request_id,time,output_tokens\n" + line * 3
    monkeypatch.setattr(exports, "LINES_MAX", 2)
    with pytest.raises(ExportError, match="more than 2 lines"):
        read_export(body)
    monkeypatch.setattr(exports, "EXPORT_BYTES_MAX", len(body) - 1)
    with pytest.raises(ExportError, match="above 0 MiB"):
        read_export(body)
    monkeypatch.setattr(exports, "JSON_CHARS_MAX", 10)
    with pytest.raises(ExportError, match="a document of several lines may have"):
        read_export(b'[\n{"request_id": "r"}\n]')


def test_only_the_first_problems_are_told_and_all_are_counted() -> None:
    body = b"request_id,time,output_tokens\n" + b"r,2026-03-30,x\n" * 50
    found = read_export(body)
    assert (len(found.problems), found.left_out, found.rows) == (20, 50, [])
    assert isinstance(found, Export)
    assert not found.by_request
