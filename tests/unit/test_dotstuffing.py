"""What stands between DATA's 354 and the final dot: the message, and no way to smuggle another."""

from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.dotstuffing import wire_blocks


def _unstuff(wire: bytes) -> bytes:
    """What a server reads: lines up to the lone dot, one leading dot taken off (RFC 5321 §4.5.2)."""
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""], "something stands behind the final dot"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])


@given(
    slices=st.lists(st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"\r\n.\r\n"])).map(b"".join)),
    block=st.integers(1, 9),
)
def test_a_server_reads_back_what_was_sent_however_it_is_cut(slices: list[bytes], block: int) -> None:
    """Slices and blocks may end inside a CRLF or before a dot."""
    whole = b"".join(slices)
    blocks = list(wire_blocks([memoryview(piece) for piece in slices], block))

    wire = b"".join(data for data, _ in blocks)
    ended = whole if whole.endswith(b"\r\n") or not whole else whole + b"\r\n"
    assert _unstuff(wire) == ended
    assert [is_last for _, is_last in blocks] == [False] * (len(blocks) - 1) + [True]


def test_bytes_are_sent_as_they_are() -> None:
    """No line end is invented, no byte is changed."""
    body = bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"

    assert b"".join(data for data, _ in wire_blocks([body])) == body + b".\r\n"
