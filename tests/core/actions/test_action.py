from proxy.core.actions.action import LOCAL, Role, Via


def test_roles_rise() -> None:
    assert [[one.covers(least) for least in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_who_may_open_the_socket_may_do_anything() -> None:
    assert (LOCAL.role, LOCAL.via, LOCAL.owner) == (Role.ADMIN, Via.CLI, True)
