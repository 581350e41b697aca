"""The MIME tree: spans of raw bytes, whatever mail holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import mime
from relay.core.mime import Part
from relay.core.reasons import SkipReason
from tests.growth import is_linear
from tests.laws import mime as laws

_LINES = st.lists(
    st.sampled_from(
        [
            "--a",
            "--a--",
            "--a ",
            "--ab",
            "--a--x",
            "--b",
            "--b--",
            "",
            "text",
            "Content-Type: multipart/mixed; boundary=a",
            'Content-Type: multipart/alternative; boundary="b"',
            "Content-Type: text/html; charset=utf-8",
            "Content-Type: message/rfc822",
            "Content-Type:",
            "Content-Transfer-Encoding: base64",
            " folded",
        ]
    ),
    max_size=40,
).map(lambda lines: "\r\n".join(lines).encode())


def _tree(raw: str) -> Part:
    root = mime.scan(raw.replace("\n", "\r\n").encode())
    assert isinstance(root, Part)
    return root


def _types(part: Part) -> list[tuple[str, str]]:
    return [(found.section, found.type) for found in part.walk()]


def _body(part: Part) -> bytes:
    return part.header.raw[slice(*part.body)]


def test_sections_are_numbered_as_imap_does() -> None:
    """RFC 9051 §6.4.5.1: the root has no number where it has parts; preamble and epilogue belong to no part."""
    root = _tree(
        "Content-Type: multipart/mixed; boundary=out\n\npreamble\n"
        "--out\nContent-Type: multipart/alternative; boundary=in\n\n"
        "--in\n\nplain\n--in\nContent-Type: text/html\n\n<p>\n--in--\nepilogue\n--out\n"
        "Content-Type: image/png\nContent-Disposition: attachment; filename=a.png\n\nPNG\n--out--\nend\n"
    )
    assert _types(root) == [
        ("", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "image/png"),
    ]
    assert [_body(part) for part in root.walk() if not part.children] == [b"plain", b"<p>", b"PNG"]
    assert (root.children[1].disposition, root.children[1].filename) == ("attachment", "a.png")


def test_a_message_of_one_part_is_section_1() -> None:
    """RFC 9051 again; without Content-Type it is text/plain in us-ascii (RFC 2045 §5.2)."""
    part = _tree("Subject: x\n\nhello\n")
    assert _types(part) == [("1", "text/plain")]
    assert (part.charset, part.encoding, part.fault) == (None, "7bit", None)


def test_a_boundary_is_a_whole_line() -> None:
    """RFC 2046 §5.1.1: white space may follow it, nothing else; another boundary may begin with it."""
    root = _tree("Content-Type: multipart/mixed; boundary=a\n\n--a \t\n\none\n--ab\n--a--b\n x--a\n--a\n\ntwo\n--a--\n")
    assert [_body(part) for part in root.children] == [b"one\r\n--ab\r\n--a--b\r\n x--a", b"two"]


def test_an_outer_boundary_ends_an_inner_part_that_never_closes() -> None:
    """RFC 2046 §5.1.2; without a final boundary the last part ends with the message."""
    root = _tree(
        "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\none\n--a\n\ntwo\nthree\n"
    )
    assert _types(root) == [
        ("", "multipart/mixed"),
        ("1", "multipart/mixed"),
        ("1.1", "text/plain"),
        ("2", "text/plain"),
    ]
    assert [_body(part) for part in root.walk() if not part.children] == [b"one", b"two\r\nthree\r\n"]


def test_a_part_may_be_empty() -> None:
    """Two boundaries in a row are a part without header and body."""
    root = _tree("Content-Type: multipart/mixed; boundary=a\n\n--a\n--a\n\n--a\nContent-Type: text/html\n\n--a--")
    assert [(part.type, _body(part), part.fault) for part in root.children] == [
        ("text/plain", b"", None),
        ("text/plain", b"", None),
        ("text/html", b"", None),
    ]


def test_the_parts_of_a_digest_are_messages_and_messages_are_not_opened() -> None:
    """RFC 2046 §5.1.5; what is forwarded is somebody else's mail."""
    root = _tree(
        "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n"
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b--\n--a--\n"
    )
    assert _types(root) == [("", "multipart/digest"), ("1", "message/rfc822")]


@pytest.mark.parametrize(
    ("value", "type_", "parameters"),
    [
        ('text/HTML; Charset="UTF-8"', "text/html", {"charset": "UTF-8"}),
        ("text/html;charset=utf-8;", "text/html", {"charset": "utf-8"}),
        ("text/html (a (comment);x) ; charset=(c)utf-8(d)", None, {}),
        ("text/html (c) ; charset=(c)utf-8(d)", "text/html", {"charset": "utf-8"}),
        ('multipart/mixed; boundary="a;b=\\"c\\\\"', "multipart/mixed", {"boundary": 'a;b="c\\'}),
        ("multipart/mixed; boundary=----=_Part_1.2=:", "multipart/mixed", {"boundary": "----=_Part_1.2=:"}),
        ('multipart/mixed; boundary="open', "multipart/mixed", {"boundary": "open"}),
        ("text/plain; charset=a; charset=b", "text/plain", {"charset": "a"}),
        ("text/plain; charset*=us-ascii'en'utf%2D8", "text/plain", {"charset": "utf-8"}),
        ("multipart/mixed; boundary*1=b; boundary*0=a; boundary*3=d", "multipart/mixed", {"boundary": "ab"}),
        ("image/png; name*0*=utf-8''%C3%A4; name*1=%20", "image/png", {"name": "ä%20"}),
        ("text/plain; format=flowed; DelSp=yes", "text/plain", {"format": "flowed", "delsp": "yes"}),
        ("text", None, {}),
        ("", None, {}),
        ("text/html charset=utf-8", None, {}),
        ("te xt/html", None, {}),
    ],
)
def test_content_types_are_read_as_mail_has_them(value: str, type_: str | None, parameters: dict[str, str]) -> None:
    """RFC 2045 §5.1 and RFC 2231, with the departures that mail needs; else the part is left alone."""
    part = _tree(f"Content-Type: {value}\nX: y\n\nbody\n")
    if type_ is None:
        assert part.fault is SkipReason.MALFORMED_CONTENT_TYPE
    else:
        assert (part.type, dict(part.parameters)) == (type_, parameters)


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("Content-Type: text/html\nContent-Type: text/plain\n", SkipReason.MALFORMED_CONTENT_TYPE),
        ("Content-Transfer-Encoding: x-uuencode\n", SkipReason.UNKNOWN_ENCODING),
        ("Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n", SkipReason.UNKNOWN_ENCODING),
        ("Content-Type: multipart/mixed\n", SkipReason.MALFORMED_MULTIPART),
        ("Content-Type: multipart/mixed; boundary=never\n", SkipReason.MALFORMED_MULTIPART),
        ("Content-Type: multipart/mixed; boundary=ä\n", SkipReason.MALFORMED_MULTIPART),
        (
            "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n",
            SkipReason.UNKNOWN_ENCODING,
        ),
        ("no field\n", SkipReason.MALFORMED_HEADER),
    ],
)
def test_what_readers_would_understand_differently_is_a_fault(header: str, fault: SkipReason) -> None:
    """On any doubt the part is left alone, with the reason."""
    assert _tree(f"{header}\nbody\n--x\n").fault is fault


def _nested(depth: int) -> bytes:
    raw = b"Content-Type: text/html\r\n\r\n<a href=http://a.example>"
    for level in range(depth):
        raw = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%b\r\n--b%d--" % (level, level, raw, level)
    return raw


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (_nested(31), SkipReason.TOO_DEEP),
        (_nested(400), SkipReason.TOO_DEEP),
        (b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 1001, SkipReason.TOO_MANY_PARTS),
        (b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--ab\r\n" * 10_001, SkipReason.TOO_MANY_PARTS),
        (b"A: " + b"x" * 131_072 + b"\r\n\r\n", SkipReason.HEADER_TOO_LARGE),
        (b"A: x\r\n" * 1001 + b"\r\n", SkipReason.HEADER_TOO_LARGE),
        (b"Content-Type: multipart/mixed; boundary=" + b"x" * 201 + b"\r\n\r\n", SkipReason.BOUNDARY_TOO_LONG),
    ],
)
def test_a_message_beyond_a_limit_has_no_tree(raw: bytes, reason: SkipReason) -> None:
    """Never a RecursionError, never unbounded work; the message passes as it is."""
    assert mime.scan(raw) is reason


def test_what_is_within_the_limits_has_one() -> None:
    """Depth 30 and 1,000 parts are still read."""
    assert isinstance(mime.scan(_nested(30)), Part)
    assert isinstance(mime.scan(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 999), Part)


@given(_LINES)
def test_spans_tile_the_input(raw: bytes) -> None:
    """Header and body tile a part; children are in order, apart, inside the body, and only delimiters lie between."""
    laws.spans_tile_the_input(raw)


@given(st.binary(max_size=300))
def test_any_bytes_can_be_scanned(raw: bytes) -> None:
    """The scanner never raises."""
    mime.scan(raw)
    mime.scan(b"Content-Type: " + raw + b"\r\nContent-Disposition: " + raw + b"\r\n\r\n" + raw)
    laws.parameters_are_read_or_refused(raw.decode("latin-1"))


_HOSTILE = {
    "parameters": lambda n: b"Content-Type: text/html" + b"; a" * n + b"\r\n\r\n",
    "quotes": lambda n: b'Content-Type: text/html; a="' + b'\\"' * n + b"\r\n\r\n",
    "open quotes": lambda n: b"Content-Type: text/html" + b'; a="\\' * n + b"\r\n\r\n",
    "comments": lambda n: b"Content-Type: text/html " + b"(" * n + b"\r\n\r\n",
    "comment ends": lambda n: b"Content-Type: text/html " + b"()(" * n + b"\r\n\r\n",
    "white space": lambda n: b"Content-Type: text/html; " + b" " * n + b"x\r\n\r\n",
    "white space to a quote": lambda n: b"Content-Type: text/html; " + b" " * n + b'"' + b"\r\n\r\n",
    "folds": lambda n: b"Content-Type: text/html;" + b"\r\n " * min(n, 990) + b"x\r\n\r\n",
    "sections": lambda n: b"Content-Type: text/html" + b"; a*1*=x" * n + b"\r\n\r\n",
    "near boundaries": lambda n: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--ab\r\n" * n,
    "padding": lambda n: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + (b"--a" + b" " * 99 + b"x\r\n") * n,
    "dashes": lambda n: b'Content-Type: multipart/mixed; boundary="-"\r\n\r\n' + b"-" * n,
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_time_is_linear_in_hostile_input(name: str) -> None:
    """Eight times the input takes no more than some thirty times the time; a quadratic reader needs 64 times."""
    assert is_linear(lambda size: mime.scan(_HOSTILE[name](size)), 1_500)
