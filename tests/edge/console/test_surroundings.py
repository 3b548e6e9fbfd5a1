from proxy.edge.console.surroundings import Options


def test_cookies_insist_on_tls_where_browsers_have_it() -> None:
    assert not Options().secure
    assert Options(console_url="https://console.example.com").secure
