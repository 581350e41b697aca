"""`mailwake explain`: every part and link, where the bytes come from, what Gmail clips, and what the witness says."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import codes
from relay.cli.main import main
from relay.core.reasons import SkipReason
from relay.testimony import Disagreement, Kind, Question
from relay.verification import child
from relay.verification.verdict import Disagreed, Verdict
from tests.integration.serving import configure

_MIXED = """\
From: Shop <news@shop.example>
To: ana@client.example
Bcc: hidden@client.example
X-PM-TrackLinks: HtmlAndText
Subject: Hi
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

Text: https://shop.example/text and www.shop.example
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<a href=3D"mailto:x@shop.example">write</a><a ses:tags=3D"kind:book" href=
=3D"https://shop.example/a?b=3D1">A book</a><a href=3D"https://shop.example=
/login?token=3Ds3cret">in</a><a href=3D"https://evil.example/%1B[31m">\x1b[31m</a>
--b
Content-Type: application/pdf; name=a.pdf
Content-Transfer-Encoding: base64

UERG
--b--
"""


def _explain(folder: Path, message: str, *options: str, **environ: str) -> Result:
    path = folder / "message.eml"
    path.write_bytes(message.encode())
    arguments = ["explain", str(path), *options, "--config", str(configure(folder))]
    return CliRunner().invoke(main, arguments, env=environ)


def _json(folder: Path, message: str, *options: str, **environ: str) -> dict[str, Any]:
    done = _explain(folder, message, "--json", *options, **environ)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def test_links_are_told_in_the_order_of_the_mail(tmp_path: Path) -> None:
    """Tracked and left ones in one list, HTML before text; what may not be stored is not printed either."""
    found = _json(tmp_path, _MIXED)

    rows = [(link["position"], link["index"], link["part"], link["url"], link["outcome"]) for link in found["links"]]
    assert rows == [
        (0, None, "html", "mailto:x@shop.example", "scheme"),
        (1, 0, "html", "https://shop.example/a?b=1", "tracked"),
        (2, 1, "html", "https://shop.example/login", "tracked"),
        (3, 2, "html", "https://evil.example/%1B[31m", "tracked"),
        (4, 3, "text", "https://shop.example/text", "tracked"),
        (5, None, "text", "www.shop.example", "no_scheme"),
    ]
    book, login = found["links"][1:3]
    assert (book["text"], book["tags"], book["section"], book["redacted"]) == ("A book", {"kind": "book"}, "2", False)
    assert login["redacted"]
    assert "s3cret" not in json.dumps(found)


def test_parts_are_told_with_their_sizes(tmp_path: Path) -> None:
    """Outcome, encoding and charset; the size as it is sent and decoded, and how much of it is ours."""
    text, html, pdf = _json(tmp_path, _MIXED)["parts"]

    assert [part["outcome"] for part in (text, html, pdf)] == ["edited", "edited", "not_text"]
    assert (html["encoding"], html["charset"], pdf["charset"]) == ("quoted-printable", "utf-8", None)
    assert html["decoded_after_bytes"] > html["decoded_bytes"]
    assert html["growth_bytes"] > 0
    assert (pdf["size_bytes"], pdf["growth_bytes"], pdf["decoded_bytes"], pdf["decoded_after_bytes"]) == (4, 0, 3, 3)


def test_growth_is_told_by_where_it_comes_from(tmp_path: Path) -> None:
    """Control fields leave, fields of ours come, and links and pixel are edits; what `--set` adds is not the file's."""
    found = _json(tmp_path, _MIXED)
    named = _json(tmp_path, _MIXED, "--set", "default")

    growth = found["growth"]
    gone = "Bcc: hidden@client.example\r\nX-PM-TrackLinks: HtmlAndText\r\n"
    assert growth["fields_out_bytes"] == -len(gone)
    assert growth["fields_in_bytes"] > len("Received: X-Mailwake-Copy: ")
    assert growth["edits_bytes"] == sum(part["growth_bytes"] for part in found["parts"])
    assert growth["total_bytes"] == sum(count for name, count in growth.items() if name != "total_bytes")
    assert found["size_bytes"] == len(_MIXED.encode()) + _MIXED.count("\n")
    assert named["size_bytes"] == found["size_bytes"]
    assert named["growth"]["fields_out_bytes"] == -len(gone)


def test_codes_are_told_once_with_their_sentence(tmp_path: Path) -> None:
    """A reader needs no page to understand a code, and gets the page that has the remedy."""
    done = _explain(tmp_path, _MIXED)

    assert done.exit_code == 0, done.output
    lines = [line.split("\t") for line in done.output.splitlines() if line.startswith("code\t")]
    assert [line[1] for line in lines] == ["scheme", "no_scheme", "not_text"]
    assert lines[2][2] == "The part is no text: a picture, a document."
    assert codes.sentences().keys() == {reason.value for reason in SkipReason}


def test_a_pipe_gets_lines_with_tabs(tmp_path: Path) -> None:
    """Whole URLs, one row a line; no escape sequence of the mail reaches a terminal."""
    output = _explain(tmp_path, _MIXED).output

    assert "\x1b" not in output
    assert "link\t1\t0\thtml\t2\ttracked\thttps://shop.example/a?b=1\tA book\tkind:book" in output.splitlines()
    assert "links:             4 of 6 tracked" in output
    assert "pixel:             yes" in output
    assert "witness:           agrees" in output


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_gets_tables_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """Nothing is cut off at 80 columns; the page with the remedies is named; hostile text stays text."""
    path = tmp_path / "message.eml"
    path.write_text(_MIXED)
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", str(columns)), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        main(["explain", str(path), "--config", str(configure(tmp_path))])

    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert "\x1b[31m" not in output
    for word in (
        "quoted-printable",
        "application/pdf",
        "not_text",
        "tracked, redacted",
        "kind:book",
        "position",
        "decoded",
    ):
        assert word in output
    assert "docs/reference/why-not-tracked.md" in output


def _newsletter(size_bytes: int) -> str:
    link = '<p><a href="https://shop.example/a">a</a></p>\n'
    filler = "<p>" + "x" * 90 + "</p>\n"
    body = (link + filler * (size_bytes // len(filler) + 1))[: size_bytes - 2] + "\n"
    return f"From: news@shop.example\nMIME-Version: 1.0\nContent-Type: text/html\n\n{body}"


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (50_000, []),
        (102 * 1024 - 1150, ["tracking makes it too long", "{{ses:openTracker}}"]),
        (110_000, ["too long as it was written", "{{ses:openTracker}}"]),
    ],
)
def test_html_that_gmail_clips_is_warned_of(tmp_path: Path, size_bytes: int, words: list[str]) -> None:
    """Beyond 102 KB of decoded HTML Gmail never loads the pixel; who is to blame decides on the remedy."""
    warnings = _json(tmp_path, _newsletter(size_bytes))["warnings"]

    assert len(warnings) == bool(words)
    for word in words:
        assert word in warnings[0]
        assert "Gmail" in warnings[0]


def test_a_message_that_is_left_alone_says_why(tmp_path: Path) -> None:
    """A refusal has exit code 1 and the reply; an untouched message its reason and no witness."""
    unknown = _explain(tmp_path, _MIXED, "--set", "nobody")
    assert unknown.exit_code == 1
    assert "554 5.7.1" in unknown.output

    untouched = _json(tmp_path, _MIXED, MAILWAKE__TRACKING__ENABLED="false")
    assert (untouched["reason"], untouched["witness"]) == ("not_enabled", None)
    signed = _json(tmp_path, "DKIM-Signature: v=1\n" + _MIXED)
    assert (signed["reason"], signed["witness"]["outcome"]) == ("dkim_signed", "agrees")
    assert list(signed["codes"]) == ["dkim_signed"]
    assert "why" in signed["witness"]


def test_a_disagreement_has_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is the one thing that a script must not miss."""

    async def disagree(_: Question) -> Verdict:
        return Disagreed(disagreements=(Disagreement(kind=Kind.TEXT, section="1.2", detail="bad \x1b[31m text"),))

    monkeypatch.setattr(child, "ask_once", disagree)
    done = _explain(tmp_path, _MIXED)

    assert done.exit_code == 1
    assert "WITNESS:           text of part 1.2: bad ?[31m text" in done.output


@pytest.mark.timeout(120)
def test_a_hostile_message_ends_in_seconds(tmp_path: Path) -> None:
    """The libraries of the witness would need minutes for it: exit code 1, and why there is no verdict."""
    done = _explain(tmp_path, "Content-Type: text/html\n\n" + ("<a " * 300 + "\n") * 200)

    assert done.exit_code == 1
    assert "WITNESS:           unverified: took more than 5 s of CPU" in done.output
