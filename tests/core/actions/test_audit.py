import msgspec
import pytest

from proxy.core.actions.audit import ACTIONS, AuditList


def test_the_log_is_only_looked_at() -> None:
    assert [action.name for action in ACTIONS] == ["audit list"]
    assert all(action.report and not action.audited for action in ACTIONS)


@pytest.mark.parametrize(
    "wrong", [{"rows_max": 0}, {"rows_max": 501}, {"before": -1}, {"outcome": "x"}]
)
def test_arguments_are_bounded(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"at `\\$.{next(iter(wrong))}`"):
        msgspec.convert(wrong, AuditList)
