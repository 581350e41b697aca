"""Builders of keys and payloads, and strategies for them."""

from datetime import UTC, date, datetime
from typing import Final

from hypothesis import strategies as st

from tracker.contract.ids import CopyId, MessageId
from tracker.contract.token import BodyPart, LinkPayload, TokenKey, TokenKeys, TokenPayload

DAY: Final = date(2026, 11, 3)
NOW: Final = datetime(2026, 11, 3, 8, 15, 2, 101_000, tzinfo=UTC)
COPY: Final = CopyId(MessageId(bytes(range(16))), bytes(range(16, 22)))
URL: Final = "https://shop.example/offers?id=7&copy=2#top"


def key(key_id: int = 1, mint_from: datetime = NOW) -> TokenKey:
    """Make a key whose secret is its id, repeated."""
    return TokenKey(key_id=key_id, secret=key_id.to_bytes(2, "big") * 16, mint_from=mint_from)


KEYS: Final = TokenKeys([key()])


def pixel(*, day: date = DAY, sample: bool = False, configuration_set: str = "", from_domain: str = "") -> TokenPayload:
    """Make the payload of a pixel."""
    return TokenPayload(copy=COPY, day=day, configuration_set=configuration_set, from_domain=from_domain, sample=sample)


def link(
    url: str = URL,
    *,
    day: date = DAY,
    sample: bool = False,
    redact: bool = False,
    configuration_set: str = "",
    from_domain: str = "",
) -> TokenPayload:
    """Make the payload of the third link, in HTML."""
    return TokenPayload(
        copy=COPY,
        day=day,
        configuration_set=configuration_set,
        from_domain=from_domain,
        link=LinkPayload(index=2, part=BodyPart.HTML, url=url),
        sample=sample,
        redact=redact,
    )


copies: Final = st.builds(
    lambda raw: CopyId(MessageId(raw[:16]), raw[16:]),
    st.binary(min_size=22, max_size=22),
)
links: Final = st.builds(
    LinkPayload,
    index=st.integers(0, 0xFFFF),
    part=st.sampled_from(BodyPart),
    url=st.text(st.characters(codec="utf-8"), min_size=1, max_size=300),
)
labels: Final = st.just("") | st.text(st.characters(codec="ascii"), max_size=255)
payloads: Final = st.builds(
    TokenPayload,
    copy=copies,
    day=st.dates(date(1970, 1, 1), date(2149, 6, 6)),
    configuration_set=labels,
    from_domain=labels,
    link=st.none() | links,
    sample=st.booleans(),
    redact=st.booleans(),
)
