from proxy.core.entities import UsageSource, Verdict
from proxy.storage import totals
from proxy.storage.totals import Totals
from tests.storage.world import closing


def test_sums_grow_by_verdict_source_and_model() -> None:
    sums = Totals()
    sums.count(closing(1), "m", 5, 2)
    sums.count(closing(2), "m", 6, 0)
    gone = closing(3, verdict=Verdict.CLIENT_GONE, source=UsageSource.COUNTED, forgiven=7, charge=0)
    sums.count(gone, "n", 0, 0)
    assert sums.settlements == {("complete", "reported"): 2, ("client_gone", "counted"): 1}
    assert sums.charged == {"m": 11, "n": 0}
    assert sums.expense == 9
    assert totals.MODELS_COUNTED_MAX > 2
