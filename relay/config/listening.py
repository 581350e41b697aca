"""`[relay]`: where mail comes in and from whom. How much of it: `limits.py`."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from relay.config.limits import Limits
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import Count, Duration, Kind, Listens, Networks, as_list
from tracker.runtime.units import ListenAddress, Network, UnfitError, is_private_network

SMTPS: Final = "smtps://"
# RFC 5321 §4.5.3.2.6: a client waits ten minutes for the reply to its final dot; many wait less.
_MAX_INLINE_WAIT: Final = timedelta(minutes=4)
_MAX_ACCEPT_DEADLINE: Final = timedelta(minutes=5)
_INSTANCE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"


def _hostname(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        domain = normalize_domain(value)
    except AddressError as error:
        raise UnfitError(f"{value!r} is no host name", 'write it like "relay.example.com"') from error
    if domain.startswith("["):
        raise UnfitError("it is an address", 'write a name like "relay.example.com"')
    return domain


def _smtp_listen(value: object) -> object:
    """Read `"smtps://0.0.0.0:465"`, an address where TLS begins at once, beside plain addresses."""
    return [_with_scheme(one) for one in value] if isinstance(value, list | tuple) else as_list(_with_scheme(value))


def _with_scheme(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(SMTPS):
        return value
    return replace(ListenAddress.parse(value.removeprefix(SMTPS)), scheme=SMTPS)


class RelaySection(Limits):
    """`[relay]`: the SMTP server that mail is sent to."""

    listen: Annotated[Listens, BeforeValidator(_smtp_listen)] = Field(
        (ListenAddress("127.0.0.1", 2525),),
        min_length=1,
        description="Where it listens; smtps://ADDRESS:PORT is TLS at once.",
    )
    hostname: Annotated[str, BeforeValidator(_hostname)] | None = Field(
        None,
        examples=['"relay.example.com"'],
        description="The name in the greeting and in Received. Left out: this machine's.",
    )
    instance: str | None = Field(
        None,
        pattern=_INSTANCE,
        examples=['"relay1"'],
        description="This node's name, in Received. Left out: this machine's.",
    )
    allow_networks: Networks = Field(
        (), examples=['["127.0.0.0/8", "::1/128"]'], description="Private networks that may send without a login."
    )
    max_auth_failures: Count = Field(
        10, ge=4, le=1000, description="Failed logins of an address, then it may not try for auth_block_for."
    )
    auth_block_for: Duration = Field(
        timedelta(minutes=15), description="How long such an address may not try; failures that old are forgotten."
    )
    bare_line_ends: Literal["normalize", "reject"] = Field(
        "normalize", description="A bare LF becomes CRLF and a bare CR a space, or the message is refused."
    )
    inline_wait: Duration = Field(
        timedelta(0),
        description="How long 250 may wait, after the message is safe, for the upstream's verdict: a refusal of all"
        " recipients is passed on to the client.",
    )
    accept_deadline: Duration = Field(
        timedelta(seconds=60),
        description="A message that is not safe this long after its end is not kept, and answered 451: its client has"
        " given up, or will.",
    )

    @field_validator("inline_wait")
    @classmethod
    def _ends_before_clients_do(cls, value: timedelta) -> timedelta:
        if value > _MAX_INLINE_WAIT:
            raise UnfitError("it is longer than 4m, and clients may give up after 10m", 'write it like "5s"')
        return value

    @field_validator("accept_deadline")
    @classmethod
    def _gives_the_disk_time(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= _MAX_ACCEPT_DEADLINE:
            raise UnfitError("it is not between 1s and 5m", 'write it like "60s"')
        return value

    @field_validator("allow_networks")
    @classmethod
    def _are_private(cls, value: tuple[Network, ...]) -> tuple[Network, ...]:
        for network in value:
            if not is_private_network(network):
                raise UnfitError(f"{network} is not private: this would be an open relay", "name your own network")
        return value


RELAY: Final = Kind(name="relay", model=RelaySection, inner=frozenset({"tls"}))
