from proxy.edge import families
from proxy.edge.families import METRICS, Metric


def test_every_metric_is_declared_once_and_named_by_the_rules() -> None:
    declared = [value for value in vars(families).values() if isinstance(value, Metric)]
    assert sorted(row.name for row in declared) == sorted(row.name for row in METRICS)
    assert len({row.name for row in METRICS}) == len(METRICS)
    forbidden = {"user", "user_id", "key", "key_id", "email", "address", "request_id"}
    for row in METRICS:
        assert row.name.startswith("sluice_")
        assert (row.kind == "counter") == row.name.endswith("_total"), row.name
        assert (row.kind == "histogram") == bool(row.bounds), row.name
        assert not forbidden & set(row.labels), row.name
        assert list(row.bounds) == sorted(set(row.bounds)), row.name
        assert row.help.endswith("."), row.name
