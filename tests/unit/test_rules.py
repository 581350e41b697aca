"""Rule files: ours with an operator's laid over it, and mistakes that are refused with the entry and a remedy."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from tests.machine import ROOT
from tests.unit.hits import RULES, RULES_TEXT
from tracker.config.rulefile import MAX_BYTES, RuleFileField, rules
from tracker.core.rules import _SIGNALS, MAX_WORDS, Rules, RulesError
from tracker.runtime.configtypes import BASE

_OURS = RULES_TEXT


def _over(text: str) -> Rules:
    return Rules(_OURS, f"version = 7\n{text}")


def test_entries_are_added() -> None:
    """Of each kind; ours stay."""
    found = _over(
        """
        [user_agent.ua_scanner]
        acme = ["acme-linkcheck"]
        [user_agent_exact.ua_privacy_proxy]
        acme = ["Acme Proxy"]
        [referer.gateway_referer]
        acme = ["links.acme.example"]
        [network.net_scanner]
        acme = ["192.0.2.0/27"]
        [as_number.net_suspect]
        acme = ["as64496"]
        """
    )

    assert found.of_user_agent("Mozilla/5.0 acme-linkcheck/2") == ("ua_scanner:acme",)
    assert found.of_user_agent("Acme Proxy") == ("ua_privacy_proxy:acme",)
    assert found.of_referer("https://eu.links.acme.example/x") == "gateway_referer:acme"
    assert found.of_address(ip_address("192.0.2.31")) == "net_scanner:acme"
    assert found.of_as_number(64496) == "net_suspect:acme"
    assert found.of_user_agent("curl/8") == ("ua_tool:curl",)
    assert found.version == f"{RULES.version}+7"


def test_an_entry_of_ours_gets_another_meaning() -> None:
    """The operator's word is the last."""
    found = _over('[user_agent.ua_unfurler]\ncurl = ["curl/"]\n[as_number.net_scanner]\nmicrosoft = ["as8075"]')

    assert found.of_user_agent("curl/8") == ("ua_unfurler:curl",)
    assert found.of_as_number(8075) == "net_scanner:microsoft"


def test_entries_of_ours_are_taken_away() -> None:
    """By kind, to the letter."""
    found = _over('[remove]\nuser_agent = ["okhttp"]\nnetwork = ["2607:f8b0::/32"]\nuser_agent_exact = ["Mozilla/5.0"]')

    assert found.of_user_agent("okhttp/4.12") == ()
    assert found.of_user_agent("Mozilla/5.0") == ()
    assert found.of_address(ip_address("2607:f8b0::1")) is None
    assert found.of_user_agent("curl/8") == ("ua_tool:curl",)


def test_a_robot_that_is_known_by_name_is_called_by_it() -> None:
    """The address that it leaves says no more than that it is one."""
    assert RULES.of_user_agent("Slackbot 1.0 (+https://api.slack.com/robots)") == ("ua_unfurler:slack",)
    assert RULES.of_user_agent("NewBot/1.0 (+https://new.example/bot)") == ("ua_crawler:self_described",)


@pytest.mark.parametrize(
    "text, entry, remedy",
    [
        ("[user_agent.ua_tool", "TOML", "mend the line"),
        ("[user_agnet.ua_tool]", "[user_agnet]", "user_agent"),
        ("user_agent = 3", "[user_agent]", "[user_agent.SIGNAL]"),
        ("[user_agent.ua_human]", "[user_agent.ua_human]", "ua_scanner"),
        ("[network.ua_tool]", "[network.ua_tool]", "net_scanner"),
        ("[user_agent]\nua_tool = 3", "[user_agent.ua_tool]", "lines like"),
        ('[user_agent.ua_tool]\n"A b" = ["x"]', "user_agent.ua_tool.A b", "a-z"),
        ('[user_agent.ua_tool]\nacme = "x"', "user_agent.ua_tool.acme", '["entry"]'),
        ("[user_agent.ua_tool]\nacme = [3]", "user_agent.ua_tool.acme", '["entry"]'),
        ('[user_agent.ua_tool]\nacme = ["Acme"]', "user_agent.ua_tool.acme 'Acme'", "'acme'"),
        ('[user_agent.ua_tool]\nacme = [" "]', "user_agent.ua_tool.acme ' '", "remove it"),
        ('[user_agent.ua_tool]\nacme = ["x"]\nother = ["x"]', "user_agent.ua_tool.other 'x'", "keep one"),
        ('[network.net_scanner]\nacme = ["192.0.2.1/24"]', "network.net_scanner.acme '192.0.2.1/24'", "192.0.2.0/24"),
        ('[as_number.net_suspect]\nacme = ["8075"]', "as_number.net_suspect.acme '8075'", "as64496"),
        ('[network.net_scanner]\nacme = ["40.92.7.0/24"]', "network 40.92.7.0/24", "[remove]"),
        ('[remove]\nuser_agent = ["nobody"]', "remove.user_agent 'nobody'", "rules.toml"),
        ('[remove]\nnobody = ["x"]', "remove.nobody", "user_agent"),
        ('[remove]\nuser_agent = "x"', "[remove]", '["curl/"]'),
    ],
)
def test_a_mistake_is_named_with_its_remedy(text: str, entry: str, remedy: str) -> None:
    """A rule that silently never matches would be worse than none."""
    with pytest.raises(RulesError) as caught:
        _over(text)

    assert caught.value.entry == entry
    assert remedy in caught.value.remedy


def test_words_are_limited() -> None:
    """Each is looked for in every User-Agent: a thousand cost a hit nothing that counts, a hundred thousand would."""
    words = ", ".join(f'"word{number}"' for number in range(MAX_WORDS))
    with pytest.raises(RulesError, match="words with ours"):
        _over(f"[user_agent.ua_tool]\nacme = [{words}]")


@pytest.mark.parametrize("text", ["", "version = 'one'", "version = true", "version = -1"])
def test_a_file_says_its_version(text: str) -> None:
    """Hits are kept with it: what judged them can be told years later."""
    with pytest.raises(RulesError, match="version"):
        Rules(_OURS, text)


def test_the_example_of_the_reference_is_one() -> None:
    """Whoever copies it has a file that works."""
    page = (ROOT / "docs" / "reference" / "rule-file.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    assert Rules(_OURS, example).of_address(ip_address("192.0.2.1")) == "net_scanner:our_gateway"


def test_every_kind_and_signal_is_in_the_reference() -> None:
    """A kind that nobody knows of is of no use."""
    page = (ROOT / "docs" / "reference" / "rule-file.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", page))

    assert named >= set(_SIGNALS) | set().union(*_SIGNALS.values())


class _Table(BaseModel):
    rules: RuleFileField


def _problem(folder: Path, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        _Table.model_validate({"rules": value}, context={BASE: folder})
    return str(caught.value)


def test_a_file_is_read_relative_to_the_configuration(tmp_path: Path) -> None:
    """And what is read then is what is in force, whatever becomes of the file."""
    (tmp_path / "mine.toml").write_text('version = 3\n[user_agent.ua_tool]\nacme = ["acme"]')
    table = _Table.model_validate({"rules": "mine.toml"}, context={BASE: tmp_path})
    (tmp_path / "mine.toml").unlink()

    assert rules(table.rules).of_user_agent("acme/1") == ("ua_tool:acme",)
    assert rules().of_user_agent("acme/1") == ()
    assert table.model_dump(mode="json") == {"rules": str(tmp_path / "mine.toml")}


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, of another encoding, too large, wrong: with its path."""
    (tmp_path / "latin").write_bytes(b"version = 1 # \xe9")
    (tmp_path / "large").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "wrong").write_text('version = 1\n[user_agent.ua_tool]\nacme = ["ACME"]')

    assert f"{tmp_path / 'none'} cannot be read: No such file" in _problem(tmp_path, "none")
    assert f"{tmp_path / 'latin'} is not UTF-8" in _problem(tmp_path, "latin")
    assert f"{tmp_path / 'large'} is larger than 4 MiB" in _problem(tmp_path, "large")
    assert f"{tmp_path / 'wrong'}: user_agent.ua_tool.acme 'ACME': is not in lower case" in _problem(tmp_path, "wrong")
    assert "it is no text" in _problem(tmp_path, 3)
