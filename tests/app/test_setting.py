from proxy.app.setting import of_bytes, of_millis, of_number, of_seconds


def test_each_kind_of_number_has_its_unit_and_bounds() -> None:
    found = [
        of_bytes("h.", 1, 2),
        of_seconds("h.", 1, 2),
        of_millis("h.", 1, 2),
        of_number("h.", 1, 2, "days"),
    ]
    assert [about.unit for about in found] == ["bytes", "s", "ms", "days"]
    assert {(about.low, about.high) for about in found} == {(1, 2)}
    assert [about.reloadable for about in found] == [False, True, True, True]
    assert not of_seconds("h.", 1, 2, reloadable=False).reloadable
