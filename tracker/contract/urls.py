"""The two URL shapes, made and parsed here and nowhere else: `BASE/i/TOKEN` (pixel) and `BASE/l/TOKEN` (link).

Short, without a telling word: blocklists match `/track`, `/open`, `/click` and `pixel.gif`.

What events keep of a sensitive destination is here too, since relay and tracker must cut the same.
"""

from tracker.contract.token import Purpose

PIXEL_PREFIX = "/i/"
LINK_PREFIX = "/l/"
_OPEN, _CLICK = Purpose.OPEN, Purpose.CLICK  # each is slow to find in its enumeration (CPython 3.11)
_PREFIX = {Purpose.OPEN: PIXEL_PREFIX, Purpose.CLICK: LINK_PREFIX}


def make(base: str, purpose: Purpose, token: str) -> str:
    """Join a base (`"https://trace.shop.example"`, no slash at its end) and a token."""
    return f"{base}{_PREFIX[purpose]}{token}"


def split(path: str) -> tuple[Purpose, str] | None:
    """Split the path of a request into purpose and the text that should begin with a token; None for other paths."""
    if path.startswith(LINK_PREFIX):
        return _CLICK, path[len(LINK_PREFIX) :]
    if path.startswith(PIXEL_PREFIX):
        return _OPEN, path[len(PIXEL_PREFIX) :]
    return None


def without_query(url: str) -> str:
    """Return a destination without its query and fragment: what events and storage keep of a sensitive link."""
    return url.partition("#")[0].partition("?")[0]
