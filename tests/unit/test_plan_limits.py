"""What a message may cost: text, tags and URLs beyond the limits are left, with the reason; the rest is tracked."""

import pytest

from relay.core import bodies, html, plan
from relay.core.reasons import SkipReason
from relay.core.text import MAX_ADDRESSES
from tests.unit.rewriting import html_mail, mail, options, reasons

_PART = "--b\nContent-Type: text/{}\n\n{}\n"


def _parts(*parts: tuple[str, str]) -> bytes:
    body = "".join(_PART.format(*part) for part in parts)
    return mail(f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{body}--b--\n")


def test_what_links_are_left_and_tracked_is_told_in_the_order_of_the_mail() -> None:
    """HTML before text, by `position`; a link that is left counts too."""
    text = "http://a.example/t1 www.a.example http://b.example/t2\n> http://c.example/t3"
    page = '<a href=http://a.example/1>1</a><a href="#">2</a><a href=http://b.example/3>3</a>'

    made = plan.make(_parts(("plain", text), ("html", page)), options())

    told = [(link.position, link.url) for link in made.links] + [(skip.position, skip.url) for skip in made.skips]
    assert sorted(told, key=lambda item: item[0] or 0) == [
        (0, "http://a.example/1"),
        (1, "#"),
        (2, "http://b.example/3"),
        (3, "http://a.example/t1"),
        (4, "www.a.example"),
        (5, "http://b.example/t2"),
        (6, "http://c.example/t3"),
    ]


@pytest.mark.parametrize("unit", ["<a href=http://a.example/>x</a>", "<br data-no-track>", "<svg><g></svg>"])
def test_html_with_too_many_tags_to_look_at_is_left(unit: str) -> None:
    """One that has as many as any newsletter is not."""
    for count, expected in ((100, {}), (html.MAX_STEPS, {"1": "too_complex"})):
        made = plan.make(html_mail(unit * count), options(max_links=count))

        assert reasons(made) == expected
        assert made.pixel is not bool(expected)


def test_all_parts_of_a_message_share_one_budget_of_tags() -> None:
    """Ten parts of 2,000 links each cost as much as one of 20,000."""
    page = "<a href=http://a.example/>x</a>" * 2000

    made = plan.make(_parts(*[("html", page)] * 10), options())

    assert reasons(made) == {f"{number}": "too_complex" for number in range(3, 11)}


def test_all_texts_of_a_message_share_one_budget_of_addresses() -> None:
    """The second text is left where both together have too many."""
    text = "http://a.example/ " * (MAX_ADDRESSES // 2 + 1)

    made = plan.make(_parts(("plain", text), ("plain", text)), options())

    assert reasons(made) == {"2": "too_complex"}


def test_text_beyond_two_mebibytes_is_left() -> None:
    """However many parts it is in; each may have one."""
    page = "<p>x</p>" * (bodies.MAX_TEXT_BYTES // 8)
    larger = page + "!"

    made = plan.make(_parts(("html", page), ("html", larger), ("html", page), ("html", "<p>")), options())

    assert reasons(made) == {"2": "too_large", "4": "too_large"}


@pytest.mark.parametrize("url", ["http://a.example/" + "x" * 100_000, "http://a.example/" + "&amp;" * 20_000])
def test_an_endless_url_is_too_long_and_the_next_is_tracked(url: str) -> None:
    """No more of it is read than tells that; what stood behind the cut would be lost else."""
    made = plan.make(html_mail(f'<a href="{url}">x</a><a href="http://b.example/">y</a>'), options())

    assert [link.url for link in made.links] == ["http://b.example/"]
    (skip,) = made.skips
    assert skip.reason is SkipReason.TOO_LONG
    assert skip.url is not None
    assert len(skip.url) == plan.MAX_SHOWN_URL
