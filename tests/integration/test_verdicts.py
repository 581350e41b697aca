"""Verdicts in the storage: what stands around a click, and what an event tells of who made it."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.integration.storage import Node, node
from tests.unit.happenings import accepted, after, clicked, delivery, opened, probed
from tests.unit.visits import GMAIL
from tracker.contract.events import Click


def _agents(here: Node) -> dict[str, dict[str, Any]]:
    """Give what each hit's event says of its agent, by the last character of its id."""
    told = [body["mailwake"] for body in here.bodies()]
    return {extra["eventId"][-1]: extra["agent"] for extra in told if "agent" in extra}


def _from(click: Click, address: str) -> Click:
    return replace(click, hit=replace(click.hit, address=address))


async def test_the_second_of_a_pair_from_two_networks_is_the_machines(tmp_path: Path) -> None:
    """In one batch, and where the first was taken in before."""
    async with node(tmp_path) as here:
        first, echo = clicked(1, at=after(900)), _from(clicked(2, at=after(902)), "198.51.100.0")
        await here.take_in(accepted(), delivery(), first, echo)
        await here.take_in(_from(clicked(3, at=after(905)), "192.0.2.0"))

        verdicts = {number: agent["class"] for number, agent in _agents(here).items()}
        assert verdicts == {"1": "human", "2": "machine", "3": "machine"}


async def test_the_click_beside_a_scanners_look_is_a_persons(tmp_path: Path) -> None:
    """A gateway follows the link in the moment of the click; its network tells it."""
    async with node(tmp_path) as here:
        look = _from(clicked(1, at=after(900), signals=("net_scanner:microsoft",)), "40.107.1.0")
        await here.take_in(accepted(), delivery(), look, clicked(2, at=after(900.08)))

        verdicts = {number: agent["class"] for number, agent in _agents(here).items()}
        assert verdicts == {"1": "machine", "2": "human"}


async def test_office_that_looks_first_speaks_against_nobody(tmp_path: Path) -> None:
    """It asks by HEAD, and the person's browser comes at once; another HEAD does speak."""
    async with node(tmp_path) as here:
        office = probed(1, at=after(900), signals=("head", "ua_office_probe:microsoft"))
        await here.take_in(accepted(), delivery(), office)
        await here.take_in(clicked(2, at=after(901)))
        await here.take_in(probed(3, at=after(2000), signals=("head",)), clicked(4, at=after(2001)))

        verdicts = {number: agent["class"] for number, agent in _agents(here).items()}
        assert verdicts == {"2": "human", "4": "machine"}


async def test_an_event_tells_program_device_and_place(tmp_path: Path) -> None:
    """And nothing of them where a proxy of images came; how many hits it stands for, where there are more."""
    async with node(tmp_path) as here:
        seen = opened(1)
        seen = replace(seen, hit=replace(seen.hit, country="DE", count=3))
        proxied = opened(2)
        hit = replace(proxied.hit, user_agent=GMAIL["User-Agent"], signals=("ua_image_proxy:google",))
        await here.take_in(accepted(), delivery(), seen, replace(proxied, hit=hit))

        *_, one, other = (body["mailwake"] for body in here.bodies())
        assert one["agent"] == {
            "class": "human",
            "reasons": [],
            "client": "Firefox 140",
            "device": "desktop",
            "os": "Linux",
        }
        assert (one["geo"], one["count"]) == ({"country": "DE"}, 3)
        assert other["agent"] == {"class": "human", "reasons": ["ua_image_proxy:google"]}
        assert not {"geo", "count"} & other.keys()
