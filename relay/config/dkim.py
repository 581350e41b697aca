"""`[dkim.NAME]`: who signs mail, and with which key."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator
from pydantic.json_schema import WithJsonSchema

from relay import dkimkeys
from relay.core.dkim import Signer
from relay.dkimkeys import DkimKey, DkimKeyError
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import Kind, Section
from tracker.runtime.units import UnfitError

MASK: Final = "**********"

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SELECTOR: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 6376 §3.1


def as_domain(value: object) -> object:
    """Return a domain in lower-case A-labels. UnfitError: it is none."""
    if not isinstance(value, str):
        return value
    try:
        return normalize_domain(value)
    except AddressError as error:
        raise UnfitError(f"{value!r} is no domain: {error}", 'write it like "shop.example"') from error


def as_selector(value: object) -> object:
    """Return a selector in lower case. UnfitError: it is none."""
    if not isinstance(value, str):
        return value
    if not _SELECTOR.fullmatch(value.lower()):
        raise UnfitError(f"{value!r} is no selector", 'use letters, digits and hyphens, like "mw1"')
    return value.lower()


def _key(value: object) -> DkimKey:
    if isinstance(value, DkimKey):
        return value
    if not isinstance(value, str):
        raise UnfitError("it is no text", 'write it like "file:dkim.pem"')
    if not value.lstrip().startswith("-----BEGIN"):
        raise UnfitError("it is no private key in PEM", 'name its file like "file:dkim.pem"')
    try:
        return dkimkeys.load(value)
    except DkimKeyError as error:
        raise UnfitError(error.wrong, error.remedy) from error


class DkimSection(Section):
    """`[dkim.NAME]`: a domain's signature; a set that names it has its mail signed."""

    domain: Annotated[str, BeforeValidator(as_domain)] = Field(
        examples=['"shop.example"'], description="The domain that signs."
    )
    selector: Annotated[str, BeforeValidator(as_selector)] = Field(
        examples=['"mw1"'], description="The key's name: its record is at SELECTOR._domainkey.DOMAIN."
    )
    key: Annotated[
        DkimKey,
        PlainValidator(_key),
        PlainSerializer(lambda _: MASK),
        WithJsonSchema({"type": "string", "format": "password", "writeOnly": True}),
    ] = Field(
        examples=['"file:dkim.pem"'], description="The private key in PEM, RSA or Ed25519; its file of mode 0600."
    )

    @property
    def record_name(self) -> str:
        """Where verifiers look for the public key: `mw1._domainkey.shop.example`."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def signer(self) -> Signer:
        """Who signs for this table."""
        return self.key.signer(self.domain, self.selector)


DKIM: Final = Kind(name="dkim", named=True, model=DkimSection)
