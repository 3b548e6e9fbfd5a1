import pytest

from proxy.core.actions.unfit import Findings, UnfitError


def test_what_is_wrong_with_several_fields_is_told_at_once() -> None:
    findings = Findings()
    assert findings.judge("count", int, "7") == 7
    findings.tell()
    assert findings.judge("size", int, "x") is None
    assert findings.judge("size", float, "y") is None
    assert findings.judge("rate", float, "z") is None
    with pytest.raises(UnfitError, match=r"'x'.*'z'") as refused:
        findings.tell()
    assert refused.value.fields.keys() == {"size", "rate"}
    assert "'x'" in refused.value.fields["size"]
