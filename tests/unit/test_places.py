"""Places: databases in MaxMind's format that an operator brings, good, odd and broken."""

import io
import random
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mmdb import Value, database
from tracker.runtime.places import Place, Places
from tracker.runtime.units import UnfitError

_COUNTRIES: Mapping[str, Value] = {
    "203.0.113.0/24": {"country": {"iso_code": "DE", "names": {"en": "Germany"}}, "location": {"radius": 50}},
    "198.51.100.0/25": {"registered_country": {"iso_code": "FR"}},
    "192.0.2.0/24": {"country_code": "AT", "country": "Austria"},
    "2001:db8::/32": {"country": {"iso_code": "IS"}},
    "100.64.0.0/10": {"country": {"iso_code": "<script>"}},
}
_SYSTEMS: Mapping[str, Value] = {
    "203.0.113.0/24": {"autonomous_system_number": 64496, "autonomous_system_organization": "Acme"},
    "192.0.2.0/24": {"asn": "AS8075"},
    "198.51.100.0/25": {"asn": "nonsense"},
}


def _write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def _places(folder: Path) -> Places:
    countries = _write(folder / "country.mmdb", database(_COUNTRIES))
    systems = _write(folder / "asn.mmdb", database(_SYSTEMS, kind="Test-ASN"))
    return Places.read([countries, systems])


@pytest.mark.parametrize(
    "address, place",
    [
        ("203.0.113.77", Place("DE", 64496)),
        ("198.51.100.1", Place("FR", 0)),
        ("198.51.100.200", Place()),
        ("192.0.2.5", Place("AT", 8075)),
        ("2001:db8:7::1", Place("IS", 0)),
        ("2001:db9::1", Place()),
        ("100.64.0.1", Place()),
        ("127.0.0.1", Place()),
    ],
)
def test_an_address_is_looked_up_in_every_database(tmp_path: Path, address: str, place: Place) -> None:
    """The country from one, the autonomous system from another; what is no country's code is nothing."""
    places = _places(tmp_path)

    assert places.find(ip_address(address)) == place
    assert (places.country_of(ip_address(address)), places.as_number_of(ip_address(address))) == place


def test_without_a_database_nothing_is_known() -> None:
    """The default."""
    assert Places().find(ip_address("203.0.113.77")) == Place()


def test_a_file_that_is_overwritten_or_removed_is_none_of_ours_any_more(tmp_path: Path) -> None:
    """Whole in memory: a mapping of a file that shrinks kills whoever reads it."""
    places = _places(tmp_path)
    (tmp_path / "country.mmdb").write_bytes(b"")
    (tmp_path / "asn.mmdb").unlink()

    assert places.find(ip_address("203.0.113.77")) == Place("DE", 64496)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, no database, cut off, about something else."""
    whole = database(_COUNTRIES)
    wrong = {
        "none": None,
        "text": b"country,code\n",
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "domains": database({"192.0.2.0/24": {"domain": "acme.example"}}),
        "nothing": database({}),
    }
    for name, raw in wrong.items():
        if raw is not None:
            _write(tmp_path / name, raw)
        with pytest.raises(UnfitError) as caught:
            Places.read([tmp_path / name])
        assert str(tmp_path / name) in caught.value.wrong, name
        assert caught.value.remedy, name


@given(st.integers(0, 2**32))
def test_a_damaged_file_breaks_no_hit(seed: int) -> None:
    """Octets changed anywhere: pointers and sizes lead anywhere then, and a lookup raises whatever Python does."""
    source = random.Random(seed)
    more: dict[str, Value] = {f"{first}.0.0.0/8": {"country": {"iso_code": "US"}} for first in range(1, 90)}
    raw = bytearray(database({**_COUNTRIES, **more}))
    end = raw.rindex(b"MaxMind.com") - 3
    begin = source.choice([0, end - 90 * 25])  # the tree and the records, or the records alone
    for _ in range(source.randrange(1, 800)):
        raw[source.randrange(begin, end)] = source.randrange(256)
    places = Places([maxminddb.open_database(io.BytesIO(bytes(raw)), maxminddb.MODE_FD)])

    for first in range(1, 90):
        country = places.country_of(ip_address(f"{first}.1.2.3"))
        assert country == "" or (len(country) == 2 and country.isupper())


def test_a_damaged_record_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And the country is not known; a size beyond the end of the file is an IndexError to Python."""
    raw = database({"192.0.2.0/24": {"country": {"iso_code": "DE"}}, "203.0.113.0/24": {"country": {"iso_code": "AT"}}})
    torn = raw.replace(b"\xe1\x47country", b"\xff\xff\xffcountry")
    assert torn != raw
    places = Places([maxminddb.open_database(io.BytesIO(torn), maxminddb.MODE_FD)])

    assert places.country_of(ip_address("192.0.2.1")) == ""
    assert places.country_of(ip_address("203.0.113.1")) == ""
    assert capsys.readouterr().out.count("place_not_found") == 1
