"""Which program and what kind of device a User-Agent names.

Read at ingest, never at the edge: it tells statistics something, and an answer nothing. The library's regular
expressions run on an engine that is linear in its input, so a hostile User-Agent costs no more than another.

Limits: browsers say less and less. An iPad's Safari says that it is a Mac; the versions of operating systems are
frozen, so none is told.
"""

from functools import cache, lru_cache
from typing import Final, Literal, NamedTuple

from ua_parser import Domain, load_lazy_builtins
from ua_parser.regex import Resolver

from tracker.contract.events import Hit
from tracker.core.classify import hides_its_reader

Device = Literal["desktop", "mobile", "tablet", "other"]

MAX_CHARACTERS: Final = 512  # as the edge keeps it; a journal may be anybody's
_MAX_NAME_CHARACTERS: Final = 64  # some names are taken from the User-Agent itself
_AGENTS_REMEMBERED: Final = 4096  # reading one takes 10 to 20 us, and a few hundred make up nearly all hits

_DESKTOPS: Final = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD"})
_PHONES: Final = frozenset({"BlackBerry OS", "HarmonyOS", "KaiOS", "Sailfish", "Windows Phone"})
_VERSION_OF_SOMETHING_ELSE: Final = frozenset({"Apple Mail"})  # it tells the engine's


class Client(NamedTuple):
    """The program, `"Firefox 140"`, the device's kind and the operating system, `"Linux"`; empty: not told.

    `device` is empty where nobody can know it, `"other"` where it is none of the kinds: a television, a script.
    """

    client: str = ""
    device: Device | Literal[""] = ""
    os: str = ""


_HIDDEN: Final = Client()


def of_hit(hit: Hit) -> Client:
    """Return the client of a hit; nothing where it came through a proxy of images, which tells of itself alone."""
    return _HIDDEN if hides_its_reader(hit.signals) else read(hit.user_agent)


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def read(user_agent: str) -> Client:
    """Return what a User-Agent names; total."""
    text = user_agent[:MAX_CHARACTERS].encode(errors="replace").decode()  # a lone surrogate is no text to the library
    found = _resolver()(text, Domain.USER_AGENT | Domain.OS)
    name = found.user_agent.family if found.user_agent is not None else ""
    version = found.user_agent.major if found.user_agent is not None else None
    if version and name not in _VERSION_OF_SOMETHING_ELSE:
        name = f"{name} {version}"
    system = found.os.family if found.os is not None else ""
    device = _device(system, text) if name or system else ""
    return Client(name[:_MAX_NAME_CHARACTERS], device, system[:_MAX_NAME_CHARACTERS])


def _device(system: str, user_agent: str) -> Device:
    if system in _DESKTOPS:
        return "desktop"
    if system == "iOS":
        return "tablet" if "iPad" in user_agent else "mobile"
    if system == "Android":
        if "Mobile" in user_agent:
            return "mobile"
        return "other" if "TV" in user_agent else "tablet"  # a tablet leaves the word out
    return "mobile" if system in _PHONES else "other"


@cache
def _resolver() -> Resolver:
    """Make it at first use: no other thread runs meanwhile, some 70 ms, and who does not ingest needs none.

    Without the expressions for devices, which are most of them: nobody asks for a model.
    """
    user_agents, systems, _devices = load_lazy_builtins()
    return Resolver((user_agents, systems, []))


def warm_up() -> None:
    """Be ready to read; to be done before there is much to answer."""
    _resolver()
