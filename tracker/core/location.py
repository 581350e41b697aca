"""The `Location` of a redirect: the author's URL byte for byte where it is a valid URI, else encoded as browsers do.

Owns what goes on the wire. Does not own which URLs are wrapped (the relay's link rules), nor what is recorded: events
have the author's string.

Standards: RFC 3986 §2, §3 (what is valid), RFC 9110 §4.2.1 (an http URI has a host), §10.2.2; the URL Standard's
percent-encode sets for path, query and fragment, and its host parser (`tracker.contract.hostnames`).

Departs from the URL Standard: nothing is normalised (no dot segments resolved, no default port dropped, no `/`
added); the client does that. `|` in a path is encoded, as Chromium does and RFC 3986 asks. A query is encoded as UTF-8
whatever the charset of the mail, which nobody remembers by then.

Safety: whatever comes in, what comes out is printable ASCII without a space and begins with `http://` or `https://`
in any case, so no response header can be split and no script URL can be reached.
"""

import ipaddress
import re
from typing import Final

from tracker.contract.hostnames import a_labels

# RFC 3986 §3.3: pchar without its percent-encoded part. Possessive quantifiers: no input makes the match slow.
_PCHAR: Final = r"A-Za-z0-9\-._~!$&'()*+,;=:@"
_ESCAPE: Final = r"%[0-9A-Fa-f]{2}"
_VALID: Final = re.compile(
    rf"""https?://
    (?:(?:[A-Za-z0-9\-._~!$&'()*+,;=:]++|{_ESCAPE})*+@)?        # userinfo
    (?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|{_ESCAPE})++)
    (?::[0-9]*)?
    (?:/(?:[{_PCHAR}/]++|{_ESCAPE})*+)?
    (?:\?(?:[{_PCHAR}/?]++|{_ESCAPE})*+)?
    (?:\#(?:[{_PCHAR}/?]++|{_ESCAPE})*+)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_PARTS: Final = re.compile(
    r"(?P<scheme>https?):[/\\]*(?P<authority>[^/\\?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_AUTHORITY: Final = re.compile(
    r"(?:(?P<userinfo>.*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?P<port>:[0-9]{0,5})?", re.DOTALL
)

_HOST: Final = re.compile(r"https?://(?:[^/?#]*@)?(\[[^\]/?#]*\]|[^:/?#]*)", re.IGNORECASE)  # of a location
_HEX: Final = re.compile(r"0x[0-9a-f]*")
_MAX_OCTET: Final = 255
_MAX_NUMBER: Final = 64  # digits: leading zeros are allowed, and more is no address that anybody writes

_C0_OR_SPACE: Final = "".join(map(chr, range(0x21)))
_REMOVED: Final = str.maketrans("", "", "\t\n\r")


def _encoded(characters: str) -> re.Pattern[str]:
    """Make a percent-encode set: C0 controls, everything above `~`, and these."""
    return re.compile(rf"[^\x20-\x7e]|[{re.escape(characters)}]")


_QUERY: Final = _encoded(" \"#<>'")
_FRAGMENT: Final = _encoded(' "<>`')
_PATH: Final = _encoded(' "#<>?^`{}|')
_USERINFO: Final = _encoded(' "#<>?^`{}|/:;=@[\\]')


def location(url: str) -> str | None:
    """Return the value of the header; None where the URL leads nowhere: not http or https, or no host that can be.

    `"https://a.example/é?q=ü|v"` gives `"https://a.example/%C3%A9?q=%C3%BC|v"`, `"https://Bücher.example"` gives
    `"https://xn--bcher-kva.example"`. A `%` is never encoded, so nothing is encoded twice.
    """
    if _VALID.fullmatch(url):
        return url
    parts = _PARTS.fullmatch(url.strip(_C0_OR_SPACE).translate(_REMOVED))
    if parts is None:
        return None
    authority = _AUTHORITY.fullmatch(parts["authority"])
    host = None if authority is None else _host(authority["host"])
    if authority is None or host is None:
        return None
    userinfo = "" if authority["userinfo"] is None else _userinfo(authority["userinfo"]) + "@"
    path = _percent_encode(parts["path"].replace("\\", "/"), _PATH)
    query = _percent_encode(parts["query"] or "", _QUERY)
    fragment = _percent_encode(parts["fragment"] or "", _FRAGMENT)
    return f"{parts['scheme']}://{userinfo}{host}{authority['port'] or ''}{path}{query}{fragment}"


def host_of(url: str) -> str:
    """Return the host that a browser goes to for a URL, to compare it with others; empty where it leads nowhere.

    Lower-case A-labels without the last dot, an address in its one spelling: `"https://a@B%2Eexample.:8443/"` gives
    `"b.example"`, `"http://0xC0.513/"` gives `"192.0.2.1"`, as does `"http://[::ffff:c000:201]/"`.
    """
    found = _HOST.match(location(url) or "")
    if found is None:
        return ""
    if found[1].startswith("["):
        return _ipv6(found[1][1:-1])
    name = (a_labels(found[1]) or "").lower().rstrip(".")
    last = name.rpartition(".")[2]
    return _ipv4(name) if last.isdigit() or _HEX.fullmatch(last) else name


def _ipv6(literal: str) -> str:
    try:
        address = ipaddress.IPv6Address(literal)
    except ValueError:
        return ""
    return f"[{address.compressed}]" if address.ipv4_mapped is None else str(address.ipv4_mapped)


def _ipv4(name: str) -> str:
    """URL Standard §3.5, the IPv4 parser: one to four numbers, the last for all octets that are left."""
    try:
        *high, last = map(_number, name.split("."))
        if any(octet > _MAX_OCTET for octet in high) or last >= 1 << 8 * (4 - len(high)):
            return ""
        return str(ipaddress.IPv4Address(last + sum(octet << 8 * (3 - place) for place, octet in enumerate(high))))
    except ValueError:  # a part that is no number, or more than four of them
        return ""


def _number(text: str) -> int:
    """`"0x1f"` is hexadecimal, `"017"` octal, and `"0x"` is 0. ValueError: it is no number, or no small one."""
    if not text.isalnum() or not text.isascii() or len(text) > _MAX_NUMBER:
        raise ValueError(text)
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def _percent_encode(text: str, encode_set: re.Pattern[str]) -> str:
    return encode_set.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), text)


def _userinfo(text: str) -> str:
    name, colon, password = text.partition(":")
    return _percent_encode(name, _USERINFO) + colon + _percent_encode(password, _USERINFO)


def _host(text: str) -> str | None:
    """Return a host in ASCII: an address literal as it is, a name in A-labels."""
    return text if text.startswith("[") else a_labels(text)
