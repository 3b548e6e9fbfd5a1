from proxy.app.setting import amount, millis, seconds, size


def test_each_kind_of_number_has_its_unit_and_bounds() -> None:
    found = [
        size("h.", 1, 2),
        seconds("h.", 1, 2),
        millis("h.", 1, 2),
        amount("h.", 1, 2, "days"),
    ]
    assert [about.unit for about in found] == ["bytes", "s", "ms", "days"]
    assert {(about.low, about.high) for about in found} == {(1, 2)}
    assert [about.reloadable for about in found] == [False, True, True, True]
    assert not seconds("h.", 1, 2, reloadable=False).reloadable
