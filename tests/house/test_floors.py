"""The rules of the floors that import-linter cannot say. The layers themselves are contracts in pyproject.toml.

These look at the imports of each module, wherever they stand in it, so a late import inside a function is seen too.
"""

import pytest

from tests.house.sources import imports, modules, shown

# Which modules of the tracker a room of the relay may import; rooms on and above `app` may import any.
_TRACKER_FOR_RELAY = {
    "relay.core": ("tracker.contract",),
    "relay.smtp": ("tracker.contract", "tracker.runtime"),
    "relay.spool": ("tracker.contract", "tracker.runtime"),
    "relay.config": ("tracker.contract", "tracker.runtime"),
    "relay.dkimkeys": (),
    "relay.testimony": (),
    "relay.verification": ("tracker.contract",),
    "relay.witness": (),
    "relay.witness_html": (),
    "relay.appconfig": ("tracker.config", "tracker.contract", "tracker.runtime"),
    "relay.configchecks": ("tracker.contract", "tracker.runtime"),
    "relay.configdraft": ("tracker.config", "tracker.runtime"),
    "relay.signedmail": ("tracker.contract", "tracker.runtime"),
    "relay.pipeline": ("tracker.contract", "tracker.runtime"),
}

# Libraries that have one owner, so that one file knows their habits and an upgrade is read in one place.
_OWNERS = {
    "aiosmtpd": ("relay.smtp",),
    "aiosmtplib": ("relay.smtp",),
    "alembic": ("tracker.store",),
    "bs4": ("relay.witness_html",),
    "argon2": ("relay.smtp.passwords",),
    "click": ("relay.cli",),
    "dns": ("relay.cli",),
    "cryptography": (
        "relay.dkimkeys",
        "tracker.contract.token",
        "tracker.runtime.secrets",
        "tracker.runtime.tls",
        "tracker.publish.natscreds",
    ),
    "jinja2": ("tracker.console",),
    "maxminddb": ("tracker.runtime.places",),
    "pydantic": ("relay.config", "tracker.config", "tracker.runtime"),
    "rich": ("relay.cli",),
    "sqlalchemy": ("tracker.store", "tracker.console.overview"),
    "ua_parser": ("tracker.store.agents",),
}


def _is_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("room", _TRACKER_FOR_RELAY)
def test_a_room_of_the_relay_knows_of_the_tracker_no_more_than_it_may(room: str) -> None:
    """The core knows the contract alone; what is below the app also the runtime."""
    wrong = [
        f"{shown(path, line)} imports {name}"
        for module, path, tree in modules("relay")
        if _is_in(module, (room,))
        for name, line in imports(tree)
        if name.split(".")[0] == "tracker" and not _is_in(name, _TRACKER_FOR_RELAY[room])
    ]

    assert wrong == []


def test_only_a_process_of_its_own_loads_the_witness() -> None:
    """The witness parses with BeautifulSoup, which hostile HTML makes quadratic: limits must hold it."""
    wrong = [
        f"{shown(path, line)} imports {name}"
        for module, path, tree in modules("relay", "tracker")
        if module not in {"relay.verification.__main__", "relay.witness"}
        for name, line in imports(tree)
        if _is_in(name, ("relay.witness", "relay.witness_html"))
    ]

    assert wrong == []


@pytest.mark.parametrize("library", _OWNERS)
def test_a_library_has_one_owner(library: str) -> None:
    """Each library is met in one room, which knows its seams; the others know that room."""
    wrong = [
        shown(path, line)
        for module, path, tree in modules("relay", "tracker")
        if not _is_in(module, _OWNERS[library])
        for name, line in imports(tree)
        if name.split(".")[0] == library
    ]

    assert wrong == []
