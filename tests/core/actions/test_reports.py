import msgspec
import pytest

from proxy.core.actions.action import Role
from proxy.core.actions.reports import (
    ACTIONS,
    ReportChannels,
    ReportErrors,
    ReportMargin,
    ReportOverview,
    ReportReconcile,
    ReportTraffic,
)
from proxy.core.reconciliation.records import Reason, State
from proxy.storage.reports import margin


def test_reports_only_look_and_are_for_operators() -> None:
    assert all(action.report and not action.audited for action in ACTIONS)
    assert all(action.role is Role.OPERATOR for action in ACTIONS)
    assert all(action.name.startswith("report ") for action in ACTIONS)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ReportTraffic, {"minutes": 0}),
        (ReportTraffic, {"minutes": 1_441}),
        (ReportErrors, {"hours": 0}),
        (ReportErrors, {"hours": 169}),
        (ReportOverview, {"x": 1}),
        (ReportChannels, {"x": 1}),
        (ReportMargin, {"days": 0}),
        (ReportMargin, {"days": margin.DAYS_MAX + 1}),
        (ReportMargin, {"by": "nonsense"}),
        (ReportMargin, {"rows_max": 0}),
        (ReportMargin, {"skip": -1}),
    ],
)
def test_arguments_are_bounded(kind: type[msgspec.Struct], wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(wrong))):
        msgspec.convert(wrong, kind)


def test_states_and_reasons_are_those_of_a_comparison() -> None:
    for name, values in (("state", State), ("reason", Reason)):
        for value in filter(None, values):
            given = {"channel": "x", "export": "", name: value.value}
            assert getattr(msgspec.convert(given, ReportReconcile), name) == value
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.convert({"channel": "x", "export": "", name: "x"}, ReportReconcile)


def test_what_margins_are_told_apart_by_is_what_can_be_asked_for() -> None:
    for by in margin.By:
        assert msgspec.convert({"by": by.value, "days": margin.DAYS_MAX}, ReportMargin).by == by
