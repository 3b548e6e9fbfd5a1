"""Which metrics and labels a PromQL expression names, and which there are on our page.

Not a parser: it knows selectors, ranges, offsets and grouping, which is all they use. Whether an
expression is well-formed is promtool's to say.
"""

import re
from collections.abc import Mapping
from functools import cache

from prometheus_client.parser import text_string_to_metric_families

from proxy.edge.families import METRICS
from tests.edge.test_exposition import filled, page

NO_METRICS = frozenset({"and", "or", "unless", "bool", "inf", "nan"})
TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus itself adds to every series."""

_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"')


@cache
def exposed() -> Mapping[str, frozenset[str]]:
    """The sample names of a page on which every family has a sample, with their labels."""
    found = {
        sample.name: frozenset(sample.labels)
        for family in text_string_to_metric_families(page(filled()))
        for sample in family.samples
    }
    suffixes = {"counter": "", "gauge": "", "histogram": "_bucket"}
    missing = [row.name for row in METRICS if row.name + suffixes[row.kind] not in found]
    assert not missing, f"no sample of {missing}"
    return found


def selectors(expression: str) -> list[tuple[str, frozenset[str]]]:
    """Each metric named, with the labels its selector names."""
    bare = _GROUPING.sub(" ", _RANGE.sub(" ", expression))
    return [
        (match[1], frozenset(_MATCHER.findall(match[2] or "")))
        for match in _SELECTOR.finditer(bare)
        if match[1] not in NO_METRICS
    ]


def grouping_labels(expression: str) -> frozenset[str]:
    """The labels that `by`, `on` and the like name."""
    listed = ",".join(_GROUPING.findall(expression))
    return frozenset(label.strip() for label in listed.split(",") if label.strip())


def unknown(expression: str, exposed: Mapping[str, frozenset[str]]) -> list[str]:
    """What `expression` names that `exposed` (sample name to its labels) does not have."""
    named = selectors(expression)
    wrong = [f"metric {name}" for name, _ in named if name not in exposed]
    wrong += [
        f"label {label} of {name}"
        for name, labels in named
        if name in exposed
        for label in labels - exposed[name] - TARGET_LABELS
    ]
    everywhere = TARGET_LABELS.union(*(exposed.get(name, frozenset()) for name, _ in named))
    wrong += [f"grouping by {label}" for label in grouping_labels(expression) - everywhere]
    return wrong if named else [*wrong, "no metric at all"]
