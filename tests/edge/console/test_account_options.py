from dataclasses import fields

from proxy.app.settings_accounts import AccountSettings
from proxy.edge.console.account_options import AccountOptions


def test_the_options_are_the_settings_name_by_name() -> None:
    assert AccountOptions() == AccountOptions(
        **{one.name: getattr(AccountSettings(), one.name) for one in fields(AccountOptions)}
    )


def test_mails_are_needed_to_confirm_and_a_provider_has_a_name() -> None:
    assert not AccountOptions(email_verification=True).confirms
    assert AccountOptions(email_verification=True, smtp_host="localhost").confirms
    assert AccountOptions().provider is None
    assert AccountOptions(oidc_issuer="https://id.example.com/x").provider == "id.example.com"
    assert AccountOptions(oidc_issuer="https://a.example", oidc_name="Work").provider == "Work"
