"""The errors of the ground floor; each is the sentence that an operator reads.

Expected outcomes are values. These are for unusable input (a damaged file, a forged token) and broken contracts.
"""


class TrackerError(Exception):
    """Base of every error that the tracker raises on purpose."""


class IdError(TrackerError, ValueError):
    """A text is not one of our ids."""


class AddressError(TrackerError, ValueError):
    """A text is not an address or path of RFC 5321 §4.1.2; the message says what is wrong, without the address."""


class TokenError(TrackerError, ValueError):
    """A text is not a token that one of our keys has sealed; the message is for tests and logs, never for the wire."""


class KeysError(TrackerError, ValueError):
    """The keys file cannot be used; the message names the field and the remedy."""


class RecordError(TrackerError, ValueError):
    """A journal record cannot be read by this version."""
