import pytest

from proxy.core.emails import EMAIL_CHARS_MAX, LOCAL_CHARS_MAX, NOT_AN_EMAIL, read_email


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann.Lee+relay@Example.COM\n", "ann.lee+relay@example.com"),
        ("o'neil@xn--mnchen-3ya.example", "o'neil@xn--mnchen-3ya.example"),
        ("root@localhost", "root@localhost"),
        ("a" * LOCAL_CHARS_MAX + "@b.example", "a" * LOCAL_CHARS_MAX + "@b.example"),
    ],
)
def test_an_address_is_kept_in_lower_case(text: str, email: str) -> None:
    assert read_email(text) == email


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@@example.com",
        "ann@example.com, bob@example.com",
        "ann@example.com\nbcc: bob@example.com",
        "ann lee@example.com",
        "ann..lee@example.com",
        ".ann@example.com",
        "<ann@example.com>",
        '"ann"@example.com',
        "ann@-example.com",
        "ann@exa_mple.com",
        "ann@example.com.",
        "аnn@example.com",
        "ann@münchen.example",
        "a" * (LOCAL_CHARS_MAX + 1) + "@b.example",
        "a@" + "b." * (EMAIL_CHARS_MAX // 2) + "example",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=NOT_AN_EMAIL):
        read_email(text)
