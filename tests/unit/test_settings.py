"""How a message's configuration set is chosen: by name, by sender domain, by account, as `scope` allows."""

import pytest

from tracker.contract.settings import ConfigurationSet, EventDestination, Scope, SenderDomain, Settings, UnknownSet

_SETS = {name: ConfigurationSet(name=name) for name in ("default", "shop", "news")}
_DOMAINS = {
    "shop.example": SenderDomain(domain="shop.example", configuration_set="shop"),
    "news.shop.example": SenderDomain(domain="news.shop.example", configuration_set="news"),
}


def _settings(scope: Scope = "account+domain", account_set: str | None = "default") -> Settings:
    return Settings(
        base_url="https://trace.shop.example",
        scope=scope,
        account_set=account_set,
        sets=_SETS,
        sender_domains=_DOMAINS,
    )


@pytest.mark.parametrize(
    ("scope", "domain", "expected"),
    [
        ("account+domain", "shop.example", "shop"),
        ("account+domain", "a.b.shop.example", "shop"),
        ("account+domain", "x.news.shop.example", "news"),
        ("account+domain", "notshop.example", "default"),
        ("account+domain", None, "default"),
        ("account", "shop.example", "default"),
        ("domain", "shop.example", "shop"),
        ("domain", "other.example", None),
        ("domain", None, None),
    ],
)
def test_the_scope_decides_what_counts(scope: Scope, domain: str | None, expected: str | None) -> None:
    """`account` is the account's set alone, `domain` the sender domain's alone, both is the longest suffix first."""
    chosen = _settings(scope).choose_set(named=None, sender_domain=domain)

    assert (chosen.name if isinstance(chosen, ConfigurationSet) else None) == expected


def test_a_named_set_wins() -> None:
    """Whatever the scope and the sender domain."""
    chosen = _settings("domain").choose_set(named="news", sender_domain="shop.example")

    assert chosen == _SETS["news"]


def test_an_unknown_set_is_told_or_ignored() -> None:
    """`unknown_set = "reject"` gives a value that names it; `ignore` goes on as if nothing had been named."""
    rejecting = _settings()
    ignoring = Settings(base_url="x", account_set="default", sets=_SETS, unknown_set="ignore")

    assert rejecting.choose_set(named="nope", sender_domain=None) == UnknownSet(name="nope")
    assert ignoring.choose_set(named="nope", sender_domain=None) == _SETS["default"]


def test_without_an_account_set_other_mail_passes_untouched() -> None:
    """None is a choice: no set."""
    assert _settings(account_set=None).choose_set(named=None, sender_domain="other.example") is None


def test_destinations_are_those_of_the_set_that_also_take_it() -> None:
    """A destination is listed by a set and may be limited to sets; mail without a set reports to the account's."""
    both = EventDestination(name="both", type="stdout")
    only_news = EventDestination(name="only_news", type="stdout", sets=("news",))
    sets = {
        "default": ConfigurationSet(name="default", destinations=("both", "only_news")),
        "news": ConfigurationSet(name="news", destinations=("only_news",)),
    }
    settings = Settings(
        base_url="x", account_set="default", sets=sets, destinations={"both": both, "only_news": only_news}
    )

    assert settings.destinations_of("default") == (both,)
    assert settings.destinations_of("news") == (only_news,)
    assert settings.destinations_of(None) == (both,)
