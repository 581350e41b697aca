"""What a recipient's own decision means for a copy: may it be tracked, and if not, why.

Where the decisions could not be read yet, nobody has given consent; and nobody is known to have denied it either, which
is found out before the copy is made and, after that, when its hits are taken in.
"""

from dataclasses import dataclass

from relay.core.reasons import SkipReason
from tracker.contract.consent import ConsentBook, Persons
from tracker.contract.settings import Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Consents:
    """The decisions in force. `book` is None until the storage could be read; `persons` finds a recipient in it."""

    persons: Persons
    book: ConsentBook | None

    def objection(self, recipient: str, rule: Consent) -> SkipReason | None:
        """Say why a recipient's copy must not be tracked, under a set's rule; None: it may be."""
        if rule == "assume" and not self.book:
            return None
        decision = self.book.of(self.persons.of(recipient)) if self.book is not None else None
        if decision == "deny":
            return SkipReason.CONSENT_DENIED
        return SkipReason.NO_CONSENT if rule == "require" and decision is None else None


NOBODY_SPOKE = Consents(persons=Persons(b""), book=ConsentBook())
"""Where no decision was ever told."""
