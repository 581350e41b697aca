"""`mailwake stats`: tables that a person reads, JSON that a program reads."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from tests.integration.serving import CONFIG, configure
from tests.integration.storage import node
from tests.unit.happenings import accepted, after, clicked, delivery, opened

FIELDS = [
    *("sent", "delivered", "bounced"),
    *("opens", "human_opens", "unique_opens", "human_unique_opens", "open_rate"),
    *("clicks", "human_clicks", "unique_clicks", "human_unique_clicks", "click_rate"),
]


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    """A configuration whose storage has a message to two, one of whom opened and clicked."""
    async with node(tmp_path) as here:
        await here.take_in(
            accepted(recipients=("ana@client.example", "ben@client.example")),
            *(delivery(recipient=recipient) for recipient in (0, 1)),
            opened(1, at=after(1000)),
            clicked(2, at=after(1000)),
            clicked(3, at=after(2000), signals=("ua_tool:curl",)),
        )
    return configure(tmp_path, f'{CONFIG}\n[storage]\nurl = "sqlite:///{here.database}"\n')


def _run(config: Path, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["stats", *arguments, "--config", str(config)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    "by, name", [("day", "2026-11-03"), ("hour", "2026-11-03T08:00Z"), ("set", "promo"), ("domain", "shop.example")]
)
def test_a_row_has_all_counts_and_rates(config: Path, by: str, name: str) -> None:
    """The names of the fields are a contract."""
    (row,) = json.loads(_run(config, "--by", by, "--json"))

    assert list(row) == [by, *FIELDS]
    assert row[by] == name
    assert (row["sent"], row["delivered"], row["unique_opens"], row["open_rate"]) == (2, 2, 1, 0.5)
    assert (row["clicks"], row["human_clicks"], row["human_unique_clicks"], row["click_rate"]) == (2, 1, 1, 0.5)


def test_links_are_told_by_where_they_lead(config: Path) -> None:
    """The most followed one first."""
    first, second = json.loads(_run(config, "--by", "link", "--json"))

    assert first == {
        "link": "https://shop.example/p?id=7&ref=mail",
        "clicks": 2,
        "human_clicks": 1,
        "unique_clicks": 1,
        "human_unique_clicks": 1,
    }
    assert second["clicks"] == 0


def test_a_pipe_gets_lines_with_tabs(config: Path) -> None:
    """A heading, then the rows, with all fields."""
    heading, row = _run(config).splitlines()

    assert heading.split("\t") == ["day", *FIELDS]
    assert row.split("\t") == ["2026-11-03", *["2", "2", "0", "1", "1", "1", "1", "50.0%", "2", "1", "1", "1", "50.0%"]]


def test_a_terminal_gets_a_table(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With headings in words, and the name of what has none."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.modules["click.testing"]._NamedTextIOWrapper, "isatty", lambda _: True)
    table = _run(config, "--by", "set")

    assert "copies opened" in table
    assert "50.0%" in table
    assert "human_opens" not in table


def test_mail_before_the_time_is_not_counted(config: Path) -> None:
    """Exit code 1: there was none."""
    done = CliRunner().invoke(main, ["stats", "--since", "1h", "--config", str(config)])

    assert (done.exit_code, done.output) == (1, "")
