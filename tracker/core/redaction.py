"""One address taken out of what is kept of messages that others got, too.

A header names all its recipients, and so does every event that has it. `[forgotten]` takes the place of the mailbox,
display name included, in `To: Ana B <ana@client.example>, bo@client.example`; elsewhere, as in a URL, of the address
alone. Letters of either case, both spellings of an international domain, `%40` for the at sign, and
`ana=client.example`, as in a return path that names its recipient, are the same address.

Limits: a name without its address, as in a subject, is not known to be anybody's.
"""

import re
from typing import Any, Final
from urllib.parse import quote

import idna
import msgspec

from tracker.contract.consent import folded

FORGOTTEN: Final = "[forgotten]"

_BEFORE: Final = r"(?:(?<![\w.+-])|(?<=%[0-9A-Fa-f]{2}))"  # `banana@` is not `ana@`, and `to%3Dana%40` is
_AT: Final = r"(?:@|%40|=40|=)"
_AFTER: Final = r"(?![\w-]|\.\w)"
_PIECES: Final = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^",])+)|,|"')


class Redaction:
    """Takes one address out of texts and records."""

    def __init__(self, address: str) -> None:
        """Take the address as the envelope prints it."""
        local, _, domain = folded(address).rpartition("@")
        locals_ = {local, f'"{local}"', quote(local, safe=""), quote(local)}
        domains = {domain, _unicode(domain)}
        one_of = [
            f"(?:{'|'.join(sorted(map(re.escape, texts), key=len, reverse=True))})" for texts in (locals_, domains)
        ]
        text = one_of[0] + _AT + one_of[1]
        self._address = re.compile(_BEFORE + text + _AFTER, re.IGNORECASE)
        self._mailbox = re.compile(rf"<\s*{text}\s*>", re.IGNORECASE)
        self._bytes = re.compile(domain.encode() + b"|" + re.escape(_unicode(domain).encode()), re.IGNORECASE)

    def may_be_in(self, raw: bytes) -> bool:
        """Say whether bytes may hold the address; a quick look, before they are decoded."""
        return self._bytes.search(raw) is not None or b"\\u" in raw

    def is_in(self, text: str) -> bool:
        """Say whether the address is in a text."""
        return self._address.search(text) is not None

    def of_text(self, text: str) -> str:
        """Return the text without the address."""
        if not self.is_in(text):
            return text
        if self._mailbox.search(text):
            text = _PIECES.sub(self._piece, text)
        return self._address.sub(FORGOTTEN, text)

    def of_json(self, raw: bytes) -> bytes:
        """Return a JSON document without the address, the very bytes where it has none. ValueError: it is no JSON."""
        if not self.may_be_in(raw):
            return raw
        document = msgspec.json.decode(raw)
        redacted = self._value(document)
        return raw if redacted == document else msgspec.json.encode(redacted)

    def _piece(self, match: re.Match[str]) -> str:
        """Of a list of mailboxes, the ones that lead to the address go as a whole."""
        piece = match.group()
        if not self._mailbox.search(piece):
            return piece
        return piece[: len(piece) - len(piece.lstrip())] + FORGOTTEN

    def _record(self, text: str) -> str:
        """A record in a record, as in a notification of SNS, is a document of its own."""
        try:
            return self.of_json(text.encode()).decode()
        except (ValueError, RecursionError):  # a subject may look like one, and be nested as deep as its author likes
            return self.of_text(text)

    def _value(self, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        if isinstance(value, str):
            return self._record(value) if value.startswith("{") else self.of_text(value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        if isinstance(value, dict):
            return {self.of_text(name): self._value(one) for name, one in value.items()}
        return value


def _unicode(domain: str) -> str:
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):  # an address literal, or a label that no standard knows
        return domain
