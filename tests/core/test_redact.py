import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.redact import REDACTED, TEXT_CHARS_MAX, redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("nothing to hide", "nothing to hide"),
        (
            "Incorrect API key provided: sk-abcd****wxyz. See our docs.",
            f"Incorrect API key provided: {REDACTED} See our docs.",
        ),
        ('{"key":"sk-proj-a_b-C9"}', f'{{"key":"{REDACTED}"}}'),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {REDACTED}"),
        ("authorization: bearer  abc", f"authorization: bearer {REDACTED}"),
        ("Bearer Bearer sk-abc!", f"Bearer {REDACTED} {REDACTED}!"),
        ('"Bearer abc\\"', f'"Bearer {REDACTED}\\"'),
        ("Bearer%20abc", f"Bearer {REDACTED}"),
        ("a risk-free desk-top", "a risk-free desk-top"),
        # Inside raw JSON an escaped line end puts a letter before the credential.
        (r"said\nsk-0123456789abcdef", rf"said\n{REDACTED}"),
        (r"said\nBearer abc", rf"said\nBearer {REDACTED}"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_known_secrets_are_taken_out_wherever_they_stand() -> None:
    assert redact("key=AIzaXYZ1&k=AIzaXYZ12", ["AIzaXYZ1", "AIzaXYZ12"]) == (
        f"key={REDACTED}&k={REDACTED}"
    )
    assert redact("a.*b", [".*b("]) == "a.*b"
    assert redact("abc", ["", "a", "abc"]) == "abc"


def test_text_is_bounded_and_cut_after_redaction() -> None:
    assert redact("x" * TEXT_CHARS_MAX) == "x" * TEXT_CHARS_MAX
    secret = "hunter2hunter2"
    text = "x" * (TEXT_CHARS_MAX - 5) + secret
    assert "hunt" not in redact(text, [secret])
    assert len(redact(text * 3, [])) == TEXT_CHARS_MAX + 1


SECRETS = st.text("abcdefgh0123456789", min_size=12, max_size=40)


@given(st.text(max_size=100), SECRETS, st.text(max_size=100))
def test_no_known_secret_survives(before: str, secret: str, after: str) -> None:
    assert secret not in redact(before + secret + after, [secret])


@given(st.text("xyz ", max_size=50), SECRETS, st.sampled_from(["sk-", "Bearer ", "Bearer sk-ant-"]))
def test_no_shape_of_credential_survives(before: str, secret: str, prefix: str) -> None:
    assert secret not in redact(f"{before} {prefix}{secret}")
