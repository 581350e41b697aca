"""What the other clicks of a copy say of a click."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.happenings import ACCEPTED_AT
from tests.unit.visits import CHROME_UA
from tracker.contract.events import Hit
from tracker.core.around import Clicks

HERE, THERE = "203.0.113.0", "198.51.100.0"


def _hit(address: str = HERE, user_agent: str = CHROME_UA, signals: tuple[str, ...] = ()) -> Hit:
    return Hit(at=ACCEPTED_AT, address=address, user_agent=user_agent, signals=signals)


def _clicks(*clicks: tuple[int, Hit], link_index: int = 0) -> Clicks:
    found = Clicks()
    for at_ms, hit in clicks:
        found.add("copy", link_index, at_ms, hit)
    return found


def test_a_sweep_is_of_links_within_half_a_minute() -> None:
    """Both ends included; the same link again is no other link, and another copy's links are none of it."""
    clicks = _clicks((0, _hit()), (10, _hit()))
    clicks.add("copy", 1, 30_000, _hit())
    clicks.add("copy", 2, 30_001, _hit())
    clicks.add("another", 3, 0, _hit())

    assert clicks.links_around("copy", 0) == 2
    assert clicks.links_around("copy", 1) == 3
    assert clicks.links_around("copy", 60_002) == 0
    assert clicks.links_around("nobody", 0) == 0


def test_of_a_pair_from_two_networks_the_second_is_the_echo() -> None:
    """So the first stands, whichever came into the storage first."""
    clicks = _clicks((12_000, _hit(THERE)), (0, _hit(HERE)))

    assert clicks.is_echo("copy", 0, 12_000, _hit(THERE))
    assert not clicks.is_echo("copy", 0, 0, _hit(HERE))
    assert not clicks.is_echo("copy", 0, 12_001, _hit(THERE))
    assert not clicks.is_echo("copy", 1, 12_000, _hit(THERE))


def test_two_in_one_millisecond_have_one_echo() -> None:
    """Else nobody would be left who made the click."""
    clicks = _clicks((5, _hit(THERE)), (5, _hit(HERE)))

    assert [clicks.is_echo("copy", 0, 5, _hit(address)) for address in (HERE, THERE)] == [True, False]


def test_without_an_address_nothing_is_an_echo() -> None:
    """`record_address = "none"`."""
    clicks = _clicks((0, _hit("")), (1, _hit(HERE)), (2, _hit("")))

    assert not clicks.is_echo("copy", 0, 1, _hit(HERE))
    assert not clicks.is_echo("copy", 0, 2, _hit(""))


def test_a_click_behind_a_scanners_is_no_echo() -> None:
    """A gateway looks at the link in the moment of the click; that is no reason to doubt the person."""
    clicks = _clicks((0, _hit(THERE, signals=("net_scanner:microsoft",))), (80, _hit(HERE)))

    assert not clicks.is_echo("copy", 0, 80, _hit(HERE))


def test_the_same_program_twice_in_a_second_is_told() -> None:
    """A pair of GETs; two programs in one network are two people, or one who opens it elsewhere."""
    clicks = _clicks((0, _hit()), (1_000, _hit()))

    assert clicks.is_twice("copy", 0, 1_000, _hit())
    assert not clicks.is_twice("copy", 0, 0, _hit())
    assert not clicks.is_twice("copy", 0, 1_001 + 1_000, _hit())
    assert not clicks.is_twice("copy", 0, 500, _hit(user_agent="another"))


@given(
    st.permutations(
        [(0, _hit()), (400, _hit()), (400, _hit(THERE)), (9_000, _hit(THERE)), (9_000, _hit(signals=("head",)))]
    )
)
def test_what_is_found_does_not_depend_on_the_order(order: list[tuple[int, Hit]]) -> None:
    """Journals are read again, and in parts; a click that is added twice changes nothing either."""
    clicks = _clicks(*order, *order)

    found = [(clicks.is_echo("copy", 0, *one), clicks.is_twice("copy", 0, *one)) for one in sorted(order, key=str)]
    straight = _clicks(*sorted(order, key=str))
    assert found == [
        (straight.is_echo("copy", 0, *one), straight.is_twice("copy", 0, *one)) for one in sorted(order, key=str)
    ]


def test_a_flood_of_one_link_is_looked_at_in_part() -> None:
    """Sixty-four clicks back, not all: ingest must not take the square of them."""
    clicks = _clicks((0, _hit(THERE)), *((at_ms, _hit()) for at_ms in range(1, 200)))

    assert clicks.is_echo("copy", 0, 50, _hit())
    assert not clicks.is_echo("copy", 0, 199, _hit())
