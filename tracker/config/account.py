"""`[tracking]`, `[configuration_set.NAME]` and `[sender_domain.NAME]`: how mail is tracked."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.contract.settings import ConfigurationSet, Consent, OnSigned, Scope, SenderDomain, SensitiveLinks
from tracker.contract.token import MAX_LINK_INDEX
from tracker.runtime.configtypes import Count, Duration, Kind, Name, Section, Texts, as_list
from tracker.runtime.units import UnfitError

_ONE_DAY: Final = timedelta(days=1)


def _host_pattern(value: object) -> object:
    if not isinstance(value, str):
        return value
    star = "*." if value.startswith("*.") else ""
    try:
        return star + normalize_domain(value.removeprefix("*."))
    except AddressError as error:
        raise UnfitError(f"{value!r} is no host", 'write it like "bank.example" or "*.bank.example"') from error


def _click_tracking(value: object) -> object:
    return False if value == "false" else value  # as an environment variable gives it


HostPattern = Annotated[str, BeforeValidator(_host_pattern)]


class TrackingSection(Section):
    """`[tracking]`: the account."""

    scope: Scope = Field("account+domain", description="Which sets count: account, account+domain or domain.")
    configuration_set: Name = Field("default", description="The account's set.")
    enabled: bool = Field(default=True, description="false: every message passes untouched.")
    collect_for: Duration = Field(timedelta(days=60), description="How long hits are recorded, from acceptance.")
    max_links: Count = Field(250, ge=0, le=MAX_LINK_INDEX + 1, description="Links wrapped in a message, HTML first.")
    unknown_set: Literal["reject", "ignore"] = Field(
        "reject", description="A message that names a set that is not there: reject or ignore."
    )
    verify_sample: float = Field(
        0.0, ge=0, le=1, description="Share of rewritten mail that the witness checks, in a process of its own."
    )

    @field_validator("collect_for")
    @classmethod
    def _has_a_day(cls, value: timedelta) -> timedelta:
        if value < _ONE_DAY:
            raise UnfitError("a token tells the day only", 'write "1d" or more')
        return value


class ConfigurationSetSection(Section):
    """`[configuration_set.NAME]`: how the mail of a set is tracked and who is told."""

    open_tracking: bool = Field(default=True, description="Whether HTML gets a pixel.")
    click_tracking: Annotated[Literal["html+text", "html", False], BeforeValidator(_click_tracking)] = Field(
        "html+text", description="Which links are wrapped: html+text, html or false."
    )
    upstream: Annotated[tuple[Name, ...], BeforeValidator(as_list)] = Field(
        ("default",),
        min_length=1,
        max_length=8,
        examples=['["ses", "backup"]'],
        description="The upstream that its mail leaves through; of a list the first that can be used.",
    )
    destinations: Texts = Field((), description="The event destinations that hear of its mail.")
    skip_hosts: Annotated[tuple[HostPattern, ...], BeforeValidator(as_list)] = Field(
        (), examples=['["*.bank.example"]'], description="Hosts whose links are never wrapped."
    )
    skip_url_text: bool = Field(default=False, description="true: a link whose visible text is itself a URL is left.")
    sensitive_links: SensitiveLinks = Field(
        "redact", description="Links that look like logins, resets or tokens: redact, skip or track."
    )
    dkim: Name | None = Field(None, examples=['"shop"'], description="The table [dkim.NAME] that signs its mail.")
    on_signed: OnSigned = Field(
        "skip",
        description="A DKIM signature that rewriting would break: skip rewriting, or resign (with an aligned dkim).",
    )
    consent: Consent = Field(
        "assume", description="Who is tracked: assume (all but those who denied it) or require (those who allowed it)."
    )
    paused: bool = Field(default=False, description="true: its mail is put off with 451 4.7.1.")


class SenderDomainSection(Section):
    """`[sender_domain."shop.example"]`: the set of a domain and of its sub-domains."""

    configuration_set: Name = Field(examples=['"default"'], description="The set of its mail.")


TRACKING: Final = Kind(name="tracking", model=TrackingSection, planned=frozenset({"require_verified_senders"}))
CONFIGURATION_SET: Final = Kind(
    name="configuration_set",
    named=True,
    model=ConfigurationSetSection,
    planned=frozenset({"tracking_domain", "mode", "share"}),
)
SENDER_DOMAIN: Final = Kind(name="sender_domain", named=True, model=SenderDomainSection)


def configuration_set(name: str, section: ConfigurationSetSection) -> ConfigurationSet:
    """Make the snapshot's entry of a table."""
    return ConfigurationSet(
        name=name,
        open_tracking=section.open_tracking,
        html_links=section.click_tracking is not False,
        text_links=section.click_tracking == "html+text",
        upstream=section.upstream[0],
        fallbacks=section.upstream[1:],
        destinations=section.destinations,
        skip_hosts=section.skip_hosts,
        skip_url_text=section.skip_url_text,
        sensitive_links=section.sensitive_links,
        dkim=section.dkim,
        on_signed=section.on_signed,
        consent=section.consent,
        paused=section.paused,
    )


def sender_domains(sections: Mapping[str, SenderDomainSection]) -> dict[str, SenderDomain]:
    """Make the snapshot's entries, by domains in A-labels."""
    entries = {}
    for name, section in sections.items():
        domain = normalize_domain(name)
        entries[domain] = SenderDomain(domain=domain, configuration_set=section.configuration_set)
    return entries
