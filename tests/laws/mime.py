"""Laws of the MIME tree and of the header block: spans that tile their bytes, whatever those are."""

from relay.core import headers, mime
from relay.core.content_type import parse_content_type, parse_disposition, parse_word
from relay.core.headers import HeaderBlock
from relay.core.mime import MAX_DEPTH, MAX_PARTS, Part
from relay.core.reasons import SkipReason


def spans_tile_the_input(raw: bytes) -> None:
    """Header and body tile a part; children are in order, apart, inside the body, and only delimiters lie between."""
    root = mime.scan(raw)
    if isinstance(root, SkipReason):
        return
    assert root.span == (0, len(raw))
    parts = list(root.walk())
    assert len(parts) <= MAX_PARTS
    assert len({part.section for part in parts}) == len(parts)
    for part in parts:
        assert part.section.count(".") <= MAX_DEPTH
        _part_is_tiled(raw, part)


def _part_is_tiled(raw: bytes, part: Part) -> None:
    fields_tile_the_block(part.header)
    assert part.span[0] <= part.header.end <= part.header.body == part.body[0] <= part.body[1] == part.span[1]
    position = part.body[0]
    for number, child in enumerate(part.children):
        between = raw[position : child.span[0]]
        assert position <= child.span[0] <= child.span[1] <= part.body[1]
        assert b"--" in between
        assert not number or between.count(b"\n") <= 2
        position = child.span[1]


def fields_tile_the_block(block: HeaderBlock) -> None:
    """Fields are contiguous from `first` to `end`; the body begins there or behind the empty line."""
    position = block.first
    for field in block.fields:
        assert field.start == position < field.value <= field.end
        assert block.raw[field.start : field.value].endswith(b":")
        assert field.name == field.name.lower()
        position = field.end
    assert position == block.end
    assert block.raw[block.end : block.body] in {b"", b"\r\n"}


def removing_takes_nothing_else(raw: bytes) -> None:
    """What is left is the input without the spans of the removed fields, and none of them is left in it."""
    expected = bytearray(raw)
    for field in reversed(headers.scan(raw).fields):
        if field.name in headers.CONTROLS or field.name.startswith(headers.CONTROL_PREFIX):
            del expected[field.start : field.end]
    assert headers.strip_controls(raw) == bytes(expected)


def a_new_field_is_first_and_nothing_else_changes(raw: bytes) -> None:
    """Trace fields stand first (RFC 5322 §3.6.7), behind an mbox line; a text without header gets its empty line."""
    new = headers.prepend(raw, b"X-New: 1\r\n")
    assert headers.scan(new).fields[0].name == b"x-new"
    at = headers.first_field_at(raw)
    before, behind = raw[:at], raw[at:]
    if before and not before.endswith(b"\n"):
        before += b"\r\n"
    assert new in {before + b"X-New: 1\r\n" + behind, before + b"X-New: 1\r\n\r\n" + behind}


def a_field_that_we_make_is_read_back(value: str) -> None:
    """Or refused, for a control character: a stranger's word is never a field of its own (header injection)."""
    try:
        field = headers.make_field("X-Any", value)
    except headers.HeaderError:
        assert any(ord(character) < 0x20 or character == "\x7f" for character in value)
        return
    block = headers.scan(field)
    assert field.endswith(b"\r\n")
    assert (block.end, len(block.fields)) == (len(field), 1)
    assert block.values("X-Any") == [value.strip()]


def parameters_are_read_or_refused(value: str) -> None:
    """Whatever stands in a Content-Type or Content-Disposition."""
    content = parse_content_type(value)
    assert content is None or (content.value == content.value.lower() and content.value.count("/") == 1)
    for found in (content, parse_disposition(value)):
        assert found is None or all(name == name.lower() for name in found.parameters)
    assert parse_word(value) == parse_word(value).lower().strip()
