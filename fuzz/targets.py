"""The targets: for each reader of hostile input, how bytes become its input, and the laws that must hold.

A target returns, or raises what is then a finding. It needs no engine: tests run each over its seeds and over all that
was ever found (`fuzz/found/TARGET/`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz import messages, words
from fuzz.choices import Choices, as_text
from relay.core import headers, lineends
from relay.core.linkrules import LinkRules
from relay.core.splices import Splice
from tests.laws import contract, encodings, fields, hits, html, links, message, mime, reports, text
from tests.unit.rewriting import HOST, options
from tests.unit.tokens import COPY, DAY
from tracker.contract.token import MAX_URL_BYTES, BodyPart, LinkPayload, TokenPayload

FOUND: Final = Path(__file__).parent / "found"

_CHARSETS: Final = (
    "utf-8",
    "us-ascii",
    "iso-8859-1",
    "shift_jis",
    "gb18030",
    "koi8-r",
    "utf-7",
    "big5",
    "no such",
    "\0",
)
_STATEFUL: Final = (
    *("iso-2022-jp", "iso-2022-kr", "utf-16", "utf-16le", "utf-32", "utf-7", "hz", "shift_jis_2004", "iso-2022-jp-2"),
    *("iso-2022-jp-2004", "iso-2022-jp-ext", "utf-32be", "shift_jisx0213"),
)
_CONTROL_FIELDS: Final = (
    *("X-Mailwake-Track", "X-SMTPAPI", "X-MSYS-API", "X-PM-TrackLinks", "X-MC-Track", "X-Mailgun-Track-Clicks"),
    *("X-SES-MESSAGE-TAGS", "X-SES-CONFIGURATION-SET", "X-PM-TrackOpens", "X-Mailgun-Track"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target. `share` is its part of the time; an input has at most `max_bytes`; `words` is the dictionary."""

    name: str
    run: Callable[[bytes], None]
    share: int
    max_bytes: int
    words: tuple[bytes, ...]
    seeds: tuple[bytes, ...]

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Walk the seeds and what was found before, each with a name."""
        yield from ((f"seed {number}", seed) for number, seed in enumerate(self.seeds))
        yield from ((path.name, path.read_bytes()) for path in sorted((FOUND / self.name).glob("*.bin")))


def run_mime(data: bytes) -> None:
    """The tree of parts, the header block, what is removed from it and put into it."""
    raw = lineends.settle(data)
    if not isinstance(raw, bytes):
        return
    mime.spans_tile_the_input(raw)
    mime.fields_tile_the_block(headers.scan(raw))
    mime.removing_takes_nothing_else(raw)
    mime.a_new_field_is_first_and_nothing_else_changes(raw)


def run_fields(data: bytes) -> None:
    """Single header values: parameters, controls, mailboxes, encoded words, and a value that we write."""
    choices = Choices(data)
    name = choices.one_of(_CONTROL_FIELDS)
    raw = choices.rest()
    try:
        value = raw.decode("utf-8")
    except UnicodeDecodeError:
        value = raw.decode("latin-1")  # as `HeaderBlock.value` does
    mime.parameters_are_read_or_refused(value)
    mime.a_field_that_we_make_is_read_back(value)
    fields.controls_only_narrow(fields.named(name, value.split("\n")))
    fields.a_mailbox_is_read_as_it_stands(value)
    fields.decoding_for_display_is_bounded(value)


def run_html(data: bytes) -> None:
    """One HTML body, in some charset; against html5lib where it is UTF-8."""
    choices = Choices(data)
    charset = choices.one_of(_CHARSETS)
    body = choices.rest()
    html.spans_are_sound(body, charset)
    html.wrapped_links_are_found_again(body)
    html.the_quick_walk_finds_what_the_thorough_one_finds(body)
    html.the_tokenizers_agree_on_every_link(body.decode("utf-8", "replace"))
    html.a_quoted_url_decodes_to_itself(body.decode("latin-1"))


def run_text(data: bytes) -> None:
    """One text body, in some charset, flowed or not."""
    choices = Choices(data)
    charset, flowed, delsp = choices.one_of(_CHARSETS), choices.flag(), choices.flag()
    text.spans_are_ordered_and_hold_their_url(choices.rest(), charset, flowed=flowed, delsp=delsp)


def run_encodings(data: bytes) -> None:
    """Quoted-printable, base64 and charsets, there and back."""
    choices = Choices(data)
    octets, label = choices.one_of((76, 60, 64, 72, 4)), choices.one_of(_STATEFUL)
    new = choices.one_of((b"", b"http://t.example/l/x", b"x" * 100, b"\r\n", b" ", b"="))
    places = [(choices.number(512), choices.number(32)) for _ in range(choices.number(4))]
    raw = choices.rest()
    settled = lineends.settle(raw)
    if isinstance(settled, bytes):
        splices = [Splice(at, at + size, (new,)) for at, size in places]
        encodings.what_is_quoted_decodes_to_itself(settled)
        encodings.a_soft_end_goes_on_in_what_follows(settled, new)
        encodings.decoding_follows_the_rules(settled)
        encodings.a_splice_changes_its_own_text_and_nothing_else(settled, splices)
        encodings.a_splice_changes_its_own_text_and_nothing_else(
            (settled + b"\r\n") * (2048 // (len(raw) + 1)), splices
        )
    encodings.base64_keeps_its_form(raw, octets)
    encodings.base64_is_clean_or_refused(raw)
    encodings.a_charset_leads_there_and_back(raw, label, new.decode())


def run_links(data: bytes) -> None:
    """One URL: the verdict, the Location, the request that comes back."""
    choices = Choices(data)
    start = choices.one_of(("", "https://", "http://shop.example/", "https://shop.example/é"))
    rules = choices.one_of((links.RULES, LinkRules(skip_url_text=True, sensitive="skip")))
    url, _, shown = as_text(choices.rest()).partition("\n\n")
    url = start + url
    links.judging_is_total(url, rules, shown)
    links.a_location_is_a_header_value_of_http(url)
    links.a_location_is_its_own_location(url)
    links.a_host_has_one_spelling(url)
    links.a_path_is_split_or_none_of_ours(url)


def run_contract(data: bytes) -> None:
    """Addresses, ids and tokens as strangers write them."""
    choices = Choices(data)
    place, other = choices.number(5000), choices.one_of(("A", "_", "+", "=", " ", "é", "\0", "."))
    index, is_sample = choices.number(3), choices.flag()
    value = as_text(choices.rest())
    contract.a_path_prints_what_was_checked(value)
    contract.a_path_prints_what_was_checked(f"<{value}>")
    contract.an_address_prints_as_it_parses(value)
    contract.an_id_has_one_spelling(value)
    contract.any_text_is_a_bad_token_or_one_of_ours(value)
    url = value.encode("utf-8", "replace")[:MAX_URL_BYTES].decode("utf-8", "ignore")
    link = LinkPayload(index=index, part=BodyPart.TEXT, url=url) if url else None
    contract.a_changed_token_is_bad(TokenPayload(copy=COPY, day=DAY, link=link, sample=is_sample), place, other)


def run_hits(data: bytes) -> None:
    """One request to the tracking host: lines of method, path, peer, X-Forwarded-For, then header fields."""
    method, path, peer, forwarded_for, *lines = (as_text(data) + "\n\n\n").split("\n")
    given = dict(line.split(":", 1) for line in lines if ":" in line)
    hits.every_request_has_an_answer(method, path, given)
    hits.a_visitor_is_an_address_or_nobody(peer, forwarded_for.split("|"))


def run_reports(data: bytes) -> None:
    """What an upstream answers, and the report of it, with the header of the message."""
    choices = Choices(data)
    code = choices.number(700)
    answer, _, message_of_sender = choices.rest().partition(b"\n\n")
    reply = as_text(answer)
    reports.a_reply_is_one_line(reply)
    reports.a_reply_has_a_meaning(code, reply)
    settled = lineends.settle(message_of_sender)
    if isinstance(settled, bytes):
        reports.a_report_is_a_message_of_three_parts(code, reply, settled)


def run_message(data: bytes) -> None:
    """A whole message, raw or made of choices, through acceptance, plan and render."""
    choices = Choices(data)
    kind, max_links, token = choices.number(4), choices.one_of((250, 1, 0)), choices.one_of((180, 24, 700))
    is_plain = kind == 0
    raw = choices.rest() if kind == 1 else messages.message(choices, plain=is_plain)
    message.a_submission_is_prepared(raw)
    settled = lineends.settle(raw)
    if isinstance(settled, bytes):
        rules = LinkRules(own_hosts=frozenset({HOST}), skip_url_text=max_links == 1)
        chosen = options(max_links=max_links, rules=rules)
        message.a_message_is_rewritten_as_promised(settled, chosen, token, is_witnessed=is_plain)
        message.without_tracking_only_our_own_marks_go(settled)


_SEED_MAIL: Final = (
    b"\x01\x00\x00From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=a\n\n"
    b"--a\nContent-Type: text/plain; format=flowed\n\nsee https://shop.example/t, or\n> https://x.example\n"
    b"--a\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
    b'<html><body><a ses:tags=3D"k:v" href=3D"https://shop.example/?a=3D1&copy=\n=3D2">a</a></body></html>\n--a--\n'
)
_SEED_TREE: Final = (
    b"Content-Type: multipart/mixed; boundary=a\n\npre\n--a\nContent-Type: multipart/mixed; boundary=b\n\n"
    b"--b\n\none\n--a \n\ntwo\n--a--\nepilogue\n"
)
_SEED_HTML: Final = (
    b'\x00<html><body><p class=a>x &amp; y</p><a ses:tags="k:v" href="https://shop.example/?a=1&copy=2">a</a>'
    b'<!--[if mso]><v:rect href="https://shop.example/v"></v:rect><![endif]--></body></html>'
)
_HITS: Final = (
    "GET",
    "HEAD",
    "/i/",
    "/l/",
    "http://t.example/l/",
    "User-Agent: ",
    "Sec-Purpose: prefetch",
    "203.0.113.7",
)

TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            name="message",
            run=run_message,
            share=6,
            max_bytes=2048,
            words=words.encoded(words.HEADER, words.HTML, words.TEXT),
            seeds=(
                _SEED_MAIL,
                b"\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x02" + bytes([1, 0, 0] * 6),
                b"\x00\x00\x00\x00\x01\x00\x00\x03\x00\x00\x02\x00" + bytes([1, 0, 1] * 4) + bytes(40),
                b"\x00\x00\x01\x01\x00\x09\x00\x03\x09\x02\x00" + bytes([2, 1, 3] * 5),
            ),
        ),
        Target(
            name="html",
            run=run_html,
            share=4,
            max_bytes=512,
            words=words.encoded(words.HTML),
            seeds=(_SEED_HTML, b"\x00<a href='x'><area href=y><script><!--<script></script>--><a href=z></script>"),
        ),
        Target(
            name="text",
            run=run_text,
            share=2,
            max_bytes=512,
            words=words.encoded(words.TEXT),
            seeds=(
                b"\x00\x00\x00See https://a.example/b_(c). <URL:http://d.example/\r\n e> www.f.example\r\n> http://g\r\n",
                b"\x03\x01\x01https://a.example/long \r\n/path \xe9 \r\n-- \r\nhttp://h.example",
            ),
        ),
        Target(
            name="mime",
            run=run_mime,
            share=2,
            max_bytes=2048,
            words=words.encoded(words.HEADER),
            seeds=(
                _SEED_TREE,
                b"From x\nBcc: a@b.example\n c\nSubject: x\n\nbody",
            ),
        ),
        Target(
            name="fields",
            run=run_fields,
            share=2,
            max_bytes=512,
            words=words.encoded(words.HEADER, words.VALUES),
            seeds=(
                b"\x00opens, clicks; rcpt=a@b.example\nnone",
                b'\x01{"filters": {"clicktrack": {"settings": {"enable": "0"}}}}',
                b'\x02"Shop, Inc" <a@b.example>, Team: c@d.example (x (y)), =?utf-8?q?Gr=C3=BC?= =?utf-8?B?w59l?=;',
                b'\x03multipart/mixed; boundary*1=b; boundary*0*=utf-8\'\'%C3%A4; name="a\\"b" (c)',
            ),
        ),
        Target(
            name="encodings",
            run=run_encodings,
            share=3,
            max_bytes=512,
            words=words.encoded(words.QUOTED),
            seeds=(
                b"\x00\x00\x01\x02\x00\x05\x08\x00\x09\x02=41=42\r\nhttp://a.exam=\r\nple/?a=3Db= \r\n&c now=20\r\n",
                b"\x01\x00\x01\x00\x1b$B%F%9%H\x1b(B",
                b"\x02\x06\x02\x00QUJD\r\nREVG\r\n",
                b"\x02\x02\x01\x00\xff\xfea\x00b\x00",
            ),
        ),
        Target(
            name="links",
            run=run_links,
            share=2,
            max_bytes=256,
            words=words.encoded(words.URLS),
            seeds=(
                "\0\0https://Bücher.example:80/ä?q=1#f".encode(),
                b"\x01\x00user:p@[::1]:8080\\x\n\nwww.shop.example",
                b"\x02\x01reset?token=1",
            ),
        ),
        Target(
            name="contract",
            run=run_contract,
            share=2,
            max_bytes=256,
            words=words.encoded(words.ADDRESSES),
            seeds=(
                '\0\0\0\0\0<@one.example:"a\\"b"@Bücher.example> SIZE=9'.encode(),
                b"\x00\x05\x01\x01\x00ana@[IPv6:2001:db8::1]",
                b"\x00\x00\x02\x02\x0101k3d5q9y8zv4c6m2r7t1w0x5b-9f86d081884c",
            ),
        ),
        Target(
            name="reports",
            run=run_reports,
            share=1,
            max_bytes=512,
            words=words.encoded(words.HEADER, words.REPLIES),
            seeds=(
                b"\x02\x265.1.1 no such user\n\nSubject: =?utf-8?q?x?=\nBcc: a@b.example\nX-A: \xc3\xa4\n b\n\nbody",
                b"\x01\xc24.2.2 mailbox full\r\n250 ok",
            ),
        ),
        Target(
            name="hits",
            run=run_hits,
            share=1,
            max_bytes=512,
            words=words.encoded(words.ADDRESSES, _HITS),
            seeds=(
                b"GET\n/l/AQABbAAu?utm=1\n203.0.113.7\n203.0.113.7, [2001:db8::7]:80|10.0.0.9\nUser-Agent: x",
                hits.SEED.encode(),
            ),
        ),
    )
}
