"""Writes MaxMind DB files for tests: networks with a record each, as small as the format allows.

Standards: MaxMind DB file format specification 2.0: a binary tree with records of 24 bits, then 16 zero octets, the
data section, the marker, the metadata.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Final

Value = str | int | Sequence["Value"] | Mapping[str, "Value"]

_MARKER: Final = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR: Final = bytes(16)
_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 2, 5, 6, 7, 9, 11


def database(records: Mapping[str, Value], *, kind: str = "Test-Country") -> bytes:
    """Make a database: `{"203.0.113.0/24": {"country": {"iso_code": "DE"}}}`; networks must not overlap."""
    tree: list[list[int | bytes]] = [[0, 0]]  # 0: nothing known; bytes: the network's record
    for text, record in records.items():
        network = ip_network(text)
        is_v4 = isinstance(network, IPv4Network)
        address = int(network.network_address)  # IPv4 lies in ::/96
        length = network.prefixlen + (96 if is_v4 else 0)
        node = 0
        for depth in range(length):
            side = address >> (127 - depth) & 1
            if depth == length - 1:
                tree[node][side] = _encode(record)
                break
            below = tree[node][side]
            if not isinstance(below, int) or below == 0:
                tree.append([0, 0])
                below = tree[node][side] = len(tree) - 1
            node = below
    data = bytearray()
    raw = bytearray()
    for node_sides in tree:
        for side_value in node_sides:
            if isinstance(side_value, bytes):
                value = len(tree) + len(_SEPARATOR) + len(data)
                data += side_value
            else:
                value = side_value or len(tree)  # the number of nodes stands for nothing
            raw += value.to_bytes(3, "big")
    numbers = {
        "binary_format_major_version": _number(2, _UINT16),
        "binary_format_minor_version": _number(0, _UINT16),
        "build_epoch": _number(1_700_000_000, _UINT64),
        "ip_version": _number(6, _UINT16),
        "node_count": _number(len(tree), _UINT32),
        "record_size": _number(24, _UINT16),
    }
    texts: dict[str, Value] = {"database_type": kind, "description": {"en": "made by a test"}, "languages": ["en"]}
    members = numbers | {name: _encode(value) for name, value in texts.items()}
    metadata = _control(_MAP, len(members)) + b"".join(_encode(name) + member for name, member in members.items())
    return bytes(raw + _SEPARATOR + data + _MARKER + metadata)


def _encode(value: Value) -> bytes:
    match value:
        case str():
            raw = value.encode()
            return _control(_STRING, len(raw)) + raw
        case int():
            return _number(value, _UINT32)
        case Mapping():
            members = b"".join(_encode(name) + _encode(member) for name, member in value.items())
            return _control(_MAP, len(value)) + members
        case _:
            return _control(_ARRAY, len(value)) + b"".join(map(_encode, value))


def _number(value: int, kind: int) -> bytes:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(kind, len(raw)) + raw


def _control(kind: int, size: int) -> bytes:
    assert size < 29 + 256
    first, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return bytes([kind << 5 | first]) + more if kind <= 7 else bytes([first, kind - 7]) + more
