"""The snapshot of settings that both halves work by, made of the tables."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from tracker.config import account
from tracker.config.account import ConfigurationSetSection, SenderDomainSection, TrackingSection
from tracker.config.destination import EventDestinationSection, event_destination
from tracker.contract.settings import Settings


def settings(
    *,
    base_url: str,
    default_upstream: str,
    tracking: TrackingSection,
    sets: Mapping[str, ConfigurationSetSection],
    sender_domains: Mapping[str, SenderDomainSection],
    destinations: Mapping[str, EventDestinationSection],
    dkim_domains: Mapping[str, str],
) -> Settings:
    """Make the snapshot that both halves work by; `base_url` is where links point (`"http://127.0.0.1:8080"`)."""
    return Settings(
        base_url=base_url,
        own_hosts=frozenset({urlsplit(base_url).netloc}),
        enabled=tracking.enabled,
        scope=tracking.scope,
        account_set=tracking.configuration_set if tracking.configuration_set in sets else None,
        unknown_set=tracking.unknown_set,
        max_links=tracking.max_links,
        collect_for=tracking.collect_for,
        default_upstream=default_upstream,
        sets={name: account.configuration_set(name, section) for name, section in sets.items()},
        sender_domains=account.sender_domains(sender_domains),
        destinations={name: event_destination(name, section) for name, section in destinations.items()},
        dkim_domains=dkim_domains,
    )
