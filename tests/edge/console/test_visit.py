import pytest

from proxy.edge.console.visit import local_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/keys", "/keys"),
        ("/usage?model=a&b=1", "/usage?model=a&b=1"),
        ("https://evil.example/keys?x=1", "/keys?x=1"),
        ("//evil.example/keys", "/keys"),
        ("///evil.example", "/evil.example"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x=1", "/"),
        ("/a\tb", "/"),
        (" /keys", "/"),
        ("http://[", "/"),
        ("keys", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_no_redirect_leaves_the_console(target: str | None, path: str) -> None:
    assert local_path(target) == path
