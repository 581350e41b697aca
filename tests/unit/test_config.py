"""The configuration file: spellings, overrides, every error at once, each with its key and a remedy."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import appconfig
from relay.appconfig import Config
from relay.roomoptions import listener_options
from tracker.contract.settings import UnknownSet
from tracker.runtime.configfile import ConfigError, find
from tracker.runtime.units import (
    ListenAddress,
    UnfitError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

SMALL = """
[relay]
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url = "maildir:var/mail"
final = true
[configuration_set.default]
"""


def _load(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return appconfig.load(path, environ)


def _problems(folder: Path, text: str, **environ: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, **environ)
    return {problem.key: f"{problem.wrong} - {problem.remedy}" for problem in caught.value.problems}


def test_a_small_file_has_every_default(tmp_path: Path) -> None:
    """What contract and reference call the default is what an empty table gives."""
    config = _load(tmp_path, SMALL)

    assert config.relay.max_message == 25 << 20
    assert config.spool.retry_for == timedelta(days=5)
    assert config.tracker.listen == (ListenAddress("127.0.0.1", 8080),)
    assert config.base_url() == "http://127.0.0.1:8080"
    assert config.tracking.max_links == 250
    settings = config.settings()
    assert settings.account_set == "default"
    assert settings.own_hosts == {"127.0.0.1:8080"}
    assert settings.sets["default"].text_links


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A process may be started from any folder; defaults are paths, too."""
    config = _load(tmp_path, SMALL + '[journal]\ndirectory = "events"')

    assert config.journal.directory == tmp_path / "events"
    assert config.spool.directory == tmp_path / "var/spool"
    assert config.storage.path == tmp_path / "var/mailwake.db"
    assert config.upstreams["default"].url.maildir == tmp_path / "var/mail"
    assert config.run_directory == tmp_path / "var/run"


def test_all_errors_come_at_once_with_key_and_remedy(tmp_path: Path) -> None:
    """An operator mends a file in one go, not one error a start."""
    problems = _problems(
        tmp_path,
        """
[relay]
listen = ["127.0.0.1"]
max_message = "25 megabytes"
max_recipients = true
hostnam = "a.example"
allow_networks = ["8.8.0.0/16"]
inline_wait = "5m"
accept_deadline = "0s"
[upstream.default]
url = "ftp://a.example"
[upstream.other]
url = "maildir:x"
username = "u"
[configuration_set.default]
upstream = "gone"
destinations = ["nowhere"]
[configuration_set.other]
mode = "shadow"
on_signed = "resign"
[sender_domain."shop..example"]
configuration_set = "default"
[event_destination.archive]
type = "webhook"
[console]
listen = ["0.0.0.0:8081"]
[metrics]
listen = "0.0.0.0:9464"
[storage]
url = "postgresql://localhost/x"
[dkim.shop]
domain = "shop..example"
selector = "mw_1"
key = "dkim.pem"
[verification]
resolver = "dns.example"
http_port = 8080
[trackin]
""",
    )

    assert "address and port" in problems["relay.listen"]
    assert '"25MiB"' in problems["relay.max_message"]
    assert "whole number" in problems["relay.max_recipients"]
    assert "'hostname'" in problems["relay.hostnam"]
    assert "open relay" in problems["relay.allow_networks"]
    assert "longer than 4m" in problems["relay.inline_wait"]
    assert "between 1s and 5m" in problems["relay.accept_deadline"]
    assert "'ftp' is no scheme" in problems["upstream.default.url"]
    assert "username and a password" in problems["upstream.other"]
    assert "not in this version - remove it" in problems["configuration_set.other.mode"]
    assert "no dkim to put one on" in problems["configuration_set.other.on_signed"]
    assert problems["configuration_set.default.upstream"].endswith("choose from default, other")
    assert "'nowhere'" in problems["configuration_set.default.destinations"]
    assert "no domain" in problems['sender_domain."shop..example"']
    assert "webhook needs a url" in problems["event_destination.archive"]
    assert "no login" in problems["console.listen"]
    assert "private" in problems["metrics.listen"]
    assert "only SQLite" in problems["storage.url"]
    assert "no domain" in problems["dkim.shop.domain"]
    assert "letters, digits and hyphens" in problems["dkim.shop.selector"]
    assert '"file:dkim.pem"' in problems["dkim.shop.key"]
    assert "address and port" in problems["verification.resolver"]
    assert "not in this version" in problems["verification.http_port"]
    assert "'tracking'" in problems["trackin"]


def test_values_come_from_environment_and_files(tmp_path: Path) -> None:
    """`env:` and `file:` keep secrets out of the file; what is not there is an error of that key alone."""
    (tmp_path / "secret").write_text("s3cret\n")
    login = '[upstream.mail]\nurl = "smtp://127.0.0.1:2526"\nusername = "env:WHO"\npassword = "file:secret"\n'

    upstream = _load(tmp_path, SMALL + login, WHO="ana").upstreams["mail"]

    assert upstream.username == "ana"
    assert upstream.password is not None
    assert upstream.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(upstream)
    (tmp_path / "secret").unlink()
    assert set(_problems(tmp_path, SMALL + login)) == {"upstream.mail.username", "upstream.mail.password"}


def test_the_environment_overrides_any_key(tmp_path: Path) -> None:
    """Texts, numbers, truths and lists; the origin of each value is kept."""
    config = _load(
        tmp_path,
        SMALL,
        MAILWAKE__RELAY__HOSTNAME="Relay.Example",
        MAILWAKE__RELAY__LISTEN='["127.0.0.1:0", "[::1]:0"]',
        MAILWAKE__TRACKER__LISTEN="127.0.0.1:0",
        MAILWAKE__RELAY__MAX_RECIPIENTS="200",
        MAILWAKE__CONFIGURATION_SET__DEFAULT__CLICK_TRACKING="false",
        MAILWAKE__CONFIGURATION_SET__DEFAULT__OPEN_TRACKING="false",
        MAILWAKE__UPSTREAM__SECOND__URL="maildir:b",
    )

    assert config.hostname == "relay.example"
    assert len(config.relay.listen) == 2
    assert config.tracker.listen == (ListenAddress("127.0.0.1", 0),)
    assert config.relay.max_recipients == 200
    assert config.sets["default"].click_tracking is False
    assert config.sets["default"].open_tracking is False
    assert set(config.upstreams) == {"default", "second"}
    assert config.source.origins["relay.hostname"] == "MAILWAKE__RELAY__HOSTNAME"
    assert config.source.origins["upstream.default.url"] == "file"


def test_a_misspelled_override_is_an_error(tmp_path: Path) -> None:
    """A variable that nobody reads would be believed to work."""
    problems = _problems(tmp_path, SMALL, MAILWAKE__RELAY="x", MAILWAKE__RELAY__HOSTNAM="y")

    assert "MAILWAKE__SECTION__KEY" in problems["MAILWAKE__RELAY"]
    assert "'hostname'" in problems["relay.hostnam"]


def test_broken_toml_is_one_clear_error(tmp_path: Path) -> None:
    """The line is named, and nothing else is guessed."""
    assert "line 1" in _problems(tmp_path, "[relay\n")["TOML"]


def test_links_that_only_this_machine_can_follow_must_not_leave_it(tmp_path: Path) -> None:
    """An http: or loopback base with an upstream elsewhere would send dead links to customers."""
    away = SMALL + '[upstream.far]\nurl = "smtps://smtp.example.com"\n'

    assert "far" in _problems(tmp_path, away)["tracker.public_url"]
    assert "far" in _problems(tmp_path, away + '[tracker]\npublic_url = "http://t.shop.example"')["tracker.public_url"]
    assert (
        _load(tmp_path, away + '[tracker]\npublic_url = "https://T.shop.example/"').base_url()
        == "https://t.shop.example"
    )
    assert "public_url" in str(_problems(tmp_path, SMALL + '[tracker]\nlisten = ["0.0.0.0:8080"]'))


@pytest.mark.parametrize("url", ["smtp://127.0.0.1:2525", "smtp://localhost:2525"])
def test_an_upstream_that_is_this_relay_is_refused(tmp_path: Path, url: str) -> None:
    """Mail would go round until its Received fields stop it."""
    assert "circle" in _problems(tmp_path, SMALL.replace("maildir:var/mail", url))["upstream.default.url"]


def test_an_smtps_address_needs_a_certificate(tmp_path: Path) -> None:
    """A port that cannot do what its URL says is found before anything listens."""
    problems = _problems(tmp_path, SMALL.replace("[relay]", '[relay]\nlisten = ["smtps://127.0.0.1:465"]'))

    assert "there is no certificate" in problems["relay.listen"]


def test_two_servers_cannot_have_one_port(tmp_path: Path) -> None:
    """The console must never answer where strangers reach the tracking host."""
    problems = _problems(tmp_path, SMALL + '[tracker]\nlisten = ["0.0.0.0:8081"]\npublic_url = "http://127.0.0.1:8081"')

    assert "tracker.listen" in problems["console.listen"]
    assert _load(tmp_path, SMALL.replace("[relay]", '[relay]\nlisten = ["0.0.0.0:2525", "[::]:2525"]')).relay.listen


def test_a_password_in_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    """The login of the upstream is the right to send; taken from the environment it is fine."""
    path = tmp_path / "config.toml"
    login = '[upstream.mail]\nurl = "smtp://127.0.0.1:2526"\nusername = "u"\npassword = '
    path.write_text(f'{SMALL}{login}"p"\n')
    path.chmod(0o644)

    with pytest.raises(ConfigError, match="chmod 600"):
        appconfig.load(path, {})
    path.write_text(f'{SMALL}{login}"env:P"\n')
    assert appconfig.load(path, {"P": "p"}).upstreams["mail"].username == "u"


def test_a_hash_in_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    """It can be guessed at for years, with no listener to slow that down."""
    path = tmp_path / "config.toml"
    hashed = "$argon2id$v=19$m=19456,t=2,p=1$" + "A" * 22 + "$" + "A" * 43
    path.write_text(f'{SMALL}[credential.news]\npassword_hash = "{hashed}"\nsender_domains = ["shop.example"]\n')
    path.chmod(0o640)

    with pytest.raises(ConfigError, match="chmod 600"):
        appconfig.load(path, {})
    path.chmod(0o600)
    assert appconfig.load(path, {}).credentials["news"].configuration_sets == ("*",)


def test_events_are_understood_in_the_spellings_of_ses(tmp_path: Path) -> None:
    """A set-up copied from SES works; events that are not there are not silently dropped."""
    head = SMALL + '[event_destination.a]\ntype = "stdout"\nevents = '

    settings = _load(tmp_path, head + '["DELIVERY_DELAY", "Open", "click"]').settings()

    assert settings.destinations["a"].events == {"delivery_delay", "open", "click"}
    assert "no event 'Complaint'" in _problems(tmp_path, head + '["Complaint"]')["event_destination.a.events"]


def test_sender_domains_are_kept_as_a_labels(tmp_path: Path) -> None:
    """The domain is written as a person writes it, and found as mail bears it."""
    settings = _load(tmp_path, SMALL + '[sender_domain."Bücher.Example"]\nconfiguration_set = "default"').settings()

    entry = settings.sender_domain_of("mail.xn--bcher-kva.example")
    assert entry is not None
    assert entry.configuration_set == "default"
    assert isinstance(settings.choose_set(named="x", sender_domain=None), UnknownSet)


def test_the_file_is_looked_for_where_the_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, MAILWAKE_CONFIG, ./config.toml, /etc/mailwake/config.toml, in that order."""
    monkeypatch.chdir(tmp_path)
    assert find(Path("a"), {"MAILWAKE_CONFIG": "b"}) == Path("a")
    assert find(None, {"MAILWAKE_CONFIG": "b"}) == Path("b")
    (tmp_path / "config.toml").touch()
    assert find(None, {}) == Path("config.toml")


@given(st.integers(min_value=0, max_value=1 << 45))
def test_a_size_is_read_as_it_is_written(size_bytes: int) -> None:
    """Parse is the inverse of format."""
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(min_value=0, max_value=10**9))
def test_a_time_is_read_as_it_is_written(seconds: int) -> None:
    """Parse is the inverse of format."""
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["501y", "9999y", "999999999999999d"])
def test_for_ever_is_500_years(text: str) -> None:
    """What is kept longer would end a process that works out since when: dates begin with the year 1."""
    with pytest.raises(UnfitError, match="longer than 500 years"):
        parse_duration(text)
    assert (datetime.now(UTC) - 2 * parse_duration("500y") - timedelta(days=1)).year > 0


@given(st.text())
def test_a_unit_that_cannot_be_read_is_unfit_and_nothing_else(text: str) -> None:
    """No text makes the parsers raise anything but the error that has a remedy."""
    for parse in (parse_size, parse_duration, ListenAddress.parse):
        with contextlib.suppress(UnfitError):
            parse(text)


def test_a_share_is_a_number_from_0_to_1(tmp_path: Path) -> None:
    """`verify_sample` is a share: a percentage is an error, not a hundredfold."""
    assert _load(tmp_path, SMALL).tracking.verify_sample == 0.0
    assert _load(tmp_path, SMALL + "[tracking]\nverify_sample = 1").tracking.verify_sample == 1.0
    assert _load(tmp_path, SMALL, MAILWAKE__TRACKING__VERIFY_SAMPLE="0.25").tracking.verify_sample == 0.25
    for wrong in ("1.5", "-0.1", "nan", '"half"'):
        assert "tracking.verify_sample" in _problems(tmp_path, f"{SMALL}[tracking]\nverify_sample = {wrong}")


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ('hostname = "mx.example"', "hostname", "mx.example"),
        ('max_message = "1MiB"', "max_message_bytes", 1 << 20),
        ("max_recipients = 101", "max_recipients", 101),
        ("max_connections = 7", "max_connections", 7),
        ("max_connections_per_address = 7", "max_connections_per_address", 7),
        ("max_errors = 7", "max_errors", 7),
        ("max_junk_commands = 7", "max_junk_commands", 7),
        ('command_timeout = "7s"', "command_timeout_s", 7.0),
        ('login_timeout = "7s"', "stranger_timeout_s", 7.0),
        ('session_timeout = "7s"', "session_timeout_s", 7.0),
        ('data_timeout = "7s"', "data_timeout_s", 7.0),
        ('min_data_rate = "7B"', "min_data_bytes_per_s", 7),
    ],
)
def test_each_limit_of_the_file_is_one_of_the_listener(tmp_path: Path, line: str, option: str, value: object) -> None:
    """A key that is read and does nothing would be worse than none."""
    default = listener_options(_load(tmp_path, SMALL))
    changed = replace(default, **{option: value})  # type: ignore[arg-type]

    assert listener_options(_load(tmp_path, SMALL.replace("[relay]", f"[relay]\n{line}"))) == changed
    assert changed != default


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/7",
        "8.8.8.8",
        "2001:db8::/32",
        "::ffff:0:0/96",  # every address of IPv4, as IPv6
        "::ffff:8.8.8.0/120",
        "64:ff9b::/96",
        "2002::/16",
        "fe80::/9",
        "192.168.0.0/15",
        "172.0.0.0/11",
        "0.0.0.0/32",
    ],
)
def test_a_network_that_strangers_send_from_is_refused(tmp_path: Path, network: str) -> None:
    """It would be an open relay; also from the environment, and beside networks that are private."""
    text = SMALL.replace('["127.0.0.0/8"]', f'["10.0.0.0/8", "{network}"]')

    assert "open relay" in _problems(tmp_path, text)["relay.allow_networks"]
    assert "open relay" in _problems(tmp_path, SMALL, MAILWAKE__RELAY__ALLOW_NETWORKS=network)["relay.allow_networks"]


@pytest.mark.parametrize(
    ("keep", "collect_for", "is_wrong"), [("30d", "60d", True), ("60d", "90d", True), ("60d", "60d", False)]
)
def test_mail_is_kept_as_long_as_its_hits_are_recorded(
    tmp_path: Path, keep: str, collect_for: str, is_wrong: bool
) -> None:
    """A hit that came after its message would have no recipient."""
    text = SMALL + f'[storage]\nkeep = "{keep}"\n[tracking]\ncollect_for = "{collect_for}"\n'
    if is_wrong:
        assert f"{keep} is less than tracking.collect_for, {collect_for}" in _problems(tmp_path, text)["storage.keep"]
    else:
        assert _load(tmp_path, text).storage.keep_statistics == timedelta(days=1825)
