"""Host names of URLs in A-labels, as browsers make them of what an author wrote.

Here because the relay asks which host a link leads to (own, excluded) and the tracker leads there: both must read the
same name. Domains of mail addresses are stricter (`address.py`).

Standards: URL Standard §3.5 (host parsing); UTS 46, non-transitional, without the stricter rules for registration, so
that what browsers open is opened: `https://☃.example`. RFC 5891 §4.4 (the A-label, by the codec punycode: the codec
`idna` of the standard library turns `faß.de` into another owner's domain).
"""

import re
from typing import Final

import idna

_FORBIDDEN: Final = re.compile(r"[\x00-\x20#/:<>?@\[\\\]^|%\x7f]")  # URL Standard §3.1, "forbidden domain code points"
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def a_labels(text: str) -> str | None:
    """Return a host name in ASCII; None where it can be none, and no browser would go there.

    `"Bücher.example"` gives `"xn--bcher-kva.example"`, `"b%C3%BCcher.example"` too; an ASCII name keeps its case, its
    percent signs decoded, and every name its last dot.
    """
    try:
        name = _ESCAPES.sub(lambda found: bytes.fromhex(found.group().replace("%", "")).decode(), text)
        if not name.isascii():
            mapped = idna.uts46_remap(name, std3_rules=False)
            name = ".".join(map(_a_label, mapped.split(".")))
    except (idna.IDNAError, UnicodeError):
        return None
    return None if not name.strip(".") or _FORBIDDEN.search(name) else name


def _a_label(label: str) -> str:
    if label.isascii():
        return label
    if label.startswith("xn--"):
        raise idna.IDNAError("an A-label is ASCII")
    return "xn--" + label.encode("punycode").decode("ascii")
