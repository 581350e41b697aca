"""Logins of the relay: what a name may send, and the hash that its password is checked against.

Here because both halves meet it: the storage keeps the logins that were made by command, the relay lets them in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EVERY_SET: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a login may send: from these domains and their sub-domains, with these sets (`"*"`: every one).

    `sender_domains` are lower-case A-labels, `("shop.example",)`.
    """

    sender_domains: tuple[str, ...]
    configuration_sets: tuple[str, ...] = (EVERY_SET,)

    def allows_domain(self, domain: str) -> bool:
        """Say whether mail may come from a domain, given in lower-case A-labels; an address literal is none."""
        return any(domain == owned or domain.endswith("." + owned) for owned in self.sender_domains)

    def allows_set(self, name: str) -> bool:
        """Say whether a message may name a configuration set."""
        return EVERY_SET in self.configuration_sets or name in self.configuration_sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A login: `password_hash` is the PHC text of argon2id, `"$argon2id$v=19$m=19456,t=2,p=1$…"`."""

    name: str
    password_hash: str
    permission: Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialBook:
    """The logins in force. Those of the file win over those of the storage, which is None until it could be read."""

    declared: Mapping[str, Credential]
    stored: Mapping[str, Credential] | None

    @property
    def is_whole(self) -> bool:
        """False while a name that is not here may be one that the storage knows."""
        return self.stored is not None

    def get(self, name: str) -> Credential | None:
        """Return the login of a name, None where there is none (or none that is known)."""
        return self.declared.get(name) or (self.stored or {}).get(name)
