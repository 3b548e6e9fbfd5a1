import pytest

from proxy.app.settings import SettingsError, parse
from proxy.app.settings_accounts import AccountSettings, faults_of

MAIL = "smtp_host = 'mail.example.com'\nmail_from = 'Relay@Example.com'\n"
PROVIDER = "oidc_issuer = 'https://id.example.com/'\noidc_client_id = 'relay'\n"


def test_what_fits_together_is_taken() -> None:
    assert not [*faults_of(AccountSettings())]
    found = parse(f"{MAIL}{PROVIDER}email_verification = true\nregistration = 'open'", {})
    assert found.mail_from == "relay@example.com"
    assert found.oidc_issuer == "https://id.example.com"
    local = "smtp_security = 'none'\nsmtp_user = 'a'\nsmtp_password_file = 'b'\n"
    assert parse(MAIL.replace("mail.example.com", "127.0.0.1") + local, {}).smtp_user == "a"
    assert parse("oidc_issuer = 'http://localhost:9'\noidc_client_id = 'relay'", {}).oidc_issuer


@pytest.mark.parametrize(
    ("text", "line", "reason", "remedy"),
    [
        ("\nemail_verification = true", 2, "there is no smtp_host", "set smtp_host"),
        ("smtp_host = 'mail.example.com'", 1, "an address they are from", "set mail_from"),
        (f"{MAIL}smtp_user = 'a'", 3, "go together", "or neither"),
        (f"{MAIL}smtp_password_file = 'a'", 3, "go together", "or neither"),
        (
            f"{MAIL}smtp_user = 'a'\nsmtp_password_file = 'b'\nsmtp_security = 'none'",
            5, "in the clear", '"starttls"',
        ),
        ("oidc_issuer = 'https://id.example.com'", 1, "who we are", "set oidc_client_id"),
        (PROVIDER.replace("https", "http"), 1, "sign in as anybody", "use https"),
        ("mail_from = 'relay'", 1, "not an e-mail address", "the default"),
        ("starting_credit = '-1'", 1, "not an amount", "the default"),
        ("registration = 'anyone'", 1, "is not", "the default"),
        ("smtp_port = 0", 1, "not between", "the default"),
    ],
)  # fmt: skip
def test_what_does_not_is_told_with_its_line(
    text: str, line: int, reason: str, remedy: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, {})
    (problem,) = caught.value.problems
    assert problem.line == line
    assert reason in problem.reason
    assert remedy in problem.remedy
