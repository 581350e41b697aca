"""`[credential.NAME]`: an SMTP login, and what it may send."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import NAME_PATTERN, Kind, Section, as_list
from tracker.runtime.units import UnfitError

_HASH: Final = re.compile(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}")
SetName = Annotated[str, Field(pattern=rf"^(\*|{NAME_PATTERN})$")]


def _sender_domain(value: str) -> str:
    try:
        domain = normalize_domain(value)
    except AddressError as error:
        raise UnfitError(f"{value!r} is no domain: {error}", 'write it like "shop.example"') from error
    if domain.startswith("["):
        raise UnfitError("it is an address", 'write a domain like "shop.example"')
    return domain


def _hash(value: SecretStr) -> SecretStr:
    """One cost for all: a login that is dearer to check than an unknown one would tell who is there."""
    if not _HASH.fullmatch(value.get_secret_value()):
        raise UnfitError("it is no hash of this version", "make one with `mailwake credentials add NAME --print`")
    return value


SenderDomainName = Annotated[str, AfterValidator(_sender_domain)]


class CredentialSection(Section):
    """`[credential.NAME]`: an SMTP login."""

    password_hash: Annotated[SecretStr, AfterValidator(_hash)] = Field(
        examples=['"$argon2id$v=19$m=19456,t=2,p=1$..."'],
        description="What its password is checked against; `mailwake credentials add NAME --print` makes it.",
    )
    sender_domains: Annotated[tuple[SenderDomainName, ...], BeforeValidator(as_list)] = Field(
        min_length=1,
        examples=['["shop.example"]'],
        description="The domains that it may send from, with their sub-domains.",
    )
    configuration_sets: Annotated[tuple[SetName, ...], BeforeValidator(as_list)] = Field(
        ("*",), min_length=1, description="The sets that its mail may name; * is every one."
    )


def read_section(
    password_hash: str, sender_domains: tuple[str, ...], configuration_sets: tuple[str, ...]
) -> CredentialSection:
    """Make the table of a login that is not in the file. UnfitError: a value breaks a rule of the file's tables."""
    values = {
        "password_hash": password_hash,
        "sender_domains": sender_domains,
        "configuration_sets": configuration_sets,
    }
    try:
        return CredentialSection.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, UnfitError):
            raise cause from error
        raise UnfitError(f"{first['loc'][0]}: {first['msg']}", "see docs/reference/configuration.md") from error


CREDENTIAL: Final = Kind(name="credential", named=True, model=CredentialSection)
