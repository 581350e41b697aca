"""Seam S23: ua-parser has several engines, one of which backtracks; `tracker/store/agents.py` names the linear one."""

import pytest
import ua_parser
from ua_parser import Domain, load_lazy_builtins
from ua_parser.regex import Resolver

from tracker.store import agents

_RESOLVER = Resolver(load_lazy_builtins())


def test_s23_our_engine_is_the_linear_one() -> None:
    """Where its package is missing the library takes Python's regular expressions in silence; our import fails."""
    assert isinstance(agents._resolver(), Resolver)
    assert ua_parser.BasicResolver.__module__ == "ua_parser.basic"


def test_s23_text_that_is_no_unicode_raises() -> None:
    """A lone surrogate, as JSON may hold one."""
    with pytest.raises(UnicodeEncodeError):
        _RESOLVER("\ud800", Domain.ALL)


def test_s23_what_is_not_found_is_none() -> None:
    """Not the family `Other`, which only its older interface says."""
    found = _RESOLVER("Mozilla/5.0", Domain.ALL)

    assert (found.user_agent, found.os, found.device) == (None, None, None)


def test_s23_proxies_of_images_are_taken_for_their_disguise() -> None:
    """So the rule file is asked first, and nothing is said of their device."""
    found = _RESOLVER(
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", Domain.ALL
    )

    assert found.os is not None
    assert found.os.family == "Windows"
