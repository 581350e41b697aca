"""The two shapes of our URLs, which never change."""

import pytest

from tracker.contract import urls
from tracker.contract.token import Purpose


@pytest.mark.parametrize(
    "purpose, url", [(Purpose.OPEN, "https://t.example/i/TOKEN"), (Purpose.CLICK, "https://t.example/l/TOKEN")]
)
def test_what_is_made_is_split(purpose: Purpose, url: str) -> None:
    """A URL that stands in mail for ever leads to its token for ever."""
    assert urls.make("https://t.example", purpose, "TOKEN") == url
    assert urls.split(url.removeprefix("https://t.example")) == (purpose, "TOKEN")


@pytest.mark.parametrize("path", ["", "/", "/i", "/l", "/x/TOKEN", "//l/TOKEN", "i/TOKEN", "/L/TOKEN", "/%6c/TOKEN"])
def test_other_paths_are_none_of_ours(path: str) -> None:
    """One spelling: nothing is decoded or folded before it is compared."""
    assert urls.split(path) is None


def test_what_follows_the_token_stays_with_it() -> None:
    """Whether it is ignored is the token's to say, since the token knows its length."""
    assert urls.split("/l/TOKEN?utm=1/i/x") == (Purpose.CLICK, "TOKEN?utm=1/i/x")
