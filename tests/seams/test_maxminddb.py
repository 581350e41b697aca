"""Seam S24: maxminddb maps the file, and its errors are of many kinds; `tracker/runtime/places.py` deals with both."""

import io
from ipaddress import ip_address
from pathlib import Path

import maxminddb
import pytest

from tests.mmdb import database

_RAW = database({"203.0.113.0/24": {"country": {"iso_code": "DE"}}})


def test_s24_a_database_is_read_from_memory() -> None:
    """The mode that is called after descriptors takes anything that can be read, and keeps no file open."""
    source = io.BytesIO(_RAW)
    reader = maxminddb.open_database(source, maxminddb.MODE_FD)
    source.close()

    assert reader.get(ip_address("203.0.113.1")) == {"country": {"iso_code": "DE"}}


def test_s24_the_library_itself_reads_what_our_tests_write(tmp_path: Path) -> None:
    """Its reader in C, which is strict, agrees with the one in Python."""
    path = tmp_path / "test.mmdb"
    path.write_bytes(_RAW)
    with maxminddb.open_database(path) as reader:
        assert reader.get("203.0.113.1") == {"country": {"iso_code": "DE"}}
        assert reader.get("203.0.114.1") is None


def test_s24_a_broken_pointer_is_another_error_than_a_broken_file() -> None:
    """One is of the library's own, the other whatever Python raises on the way."""
    with pytest.raises(maxminddb.InvalidDatabaseError):
        maxminddb.open_database(io.BytesIO(b"nothing"), maxminddb.MODE_FD)
    place = _RAW.rindex(b"DE")
    torn = _RAW[: place - 1] + b"\x5d\xff\xff" + _RAW[place + 2 :]
    reader = maxminddb.open_database(io.BytesIO(torn), maxminddb.MODE_FD)
    with pytest.raises((UnicodeDecodeError, LookupError, maxminddb.InvalidDatabaseError)):
        reader.get(ip_address("203.0.113.1"))
