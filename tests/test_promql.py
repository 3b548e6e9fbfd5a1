"""The reader of PromQL finds what is named, and what is not there."""

import pytest

from tests import promql

EXPOSED = {
    "a_total": frozenset({"code", "model"}),
    "b_bucket": frozenset({"le", "model"}),
    "c": frozenset[str](),
}


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("c == 0", [("c", set())]),
        ('sum by (model) (rate(a_total{code=~"5.."}[5m])) / 3', [("a_total", {"code"})]),
        ("histogram_quantile(0.99, sum by (le) (rate(b_bucket[$__rate_interval])))", [("b_bucket", set())]),
        ('a_total{code="1",model!="x"} unless a_total offset 5m', [("a_total", {"code", "model"}), ("a_total", set())]),
        ("predict_linear(c[6h], 86400) < 1e9 and c > 0", [("c", set()), ("c", set())]),
    ],
)  # fmt: skip
def test_metrics_and_their_labels_are_found(
    expression: str, named: list[tuple[str, set[str]]]
) -> None:
    assert promql.selectors(expression) == [(name, frozenset(labels)) for name, labels in named]
    assert promql.unknown(expression, EXPOSED) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(d_total[5m])", ["metric d_total"]),
        ('a_total{color="x"}', ["label color of a_total"]),
        ("sum by (le) (a_total)", ["grouping by le"]),
        ("1 + 1", ["no metric at all"]),
    ],
)
def test_what_is_not_exposed_is_found(expression: str, wrong: list[str]) -> None:
    assert promql.unknown(expression, EXPOSED) == wrong


def test_labels_of_the_target_are_everywhere() -> None:
    assert promql.unknown('sum by (instance, job) (c{job="sluice"})', EXPOSED) == []
