"""Settings: where they come from, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatstream.config import Config, is_loopback, read_config
from chatstream.errors import ConfigError
from chatstream.providers import Limits


def test_nothing_given_is_the_default_and_keeps_its_data_in_the_home() -> None:
    assert read_config([], {}) == Config(data=Path.home() / ".local/share/chatstream")
    assert Config().data is None, "as a library it keeps nothing"


@pytest.mark.parametrize(
    ("arguments", "environ", "data"),
    [
        ([], {"XDG_DATA_HOME": "/data"}, Path("/data/chatstream")),
        ([], {"XDG_DATA_HOME": "data"}, Path.home() / ".local/share/chatstream"),
        ([], {"XDG_DATA_HOME": "/data", "CHATSTREAM_DATA": "~/chats"}, Path.home() / "chats"),
        (["--data", "chats"], {"CHATSTREAM_DATA": "/data"}, Path("chats")),
        (["--data", ":memory:"], {}, None),
        ([], {"CHATSTREAM_DATA": ":memory:"}, None),
        (["--data="], {"XDG_DATA_HOME": "/data"}, Path("/data/chatstream")),
    ],
)
def test_the_data_are_where_they_are_told_to_be(
    arguments: list[str], environ: dict[str, str], data: Path | None
) -> None:
    assert read_config(arguments, environ).data == data


def test_a_time_may_be_none_at_all_where_that_means_something() -> None:
    config = read_config(["--orphan-after=0", "--linger=0", "--keep-runs=0", "--grace", "0.5"], {})
    assert (config.orphan_after, config.linger, config.keep_runs, config.grace) == (0, 0, 0, 0.5)


def test_the_time_limits_of_providers_and_trim_are_options_and_variables() -> None:
    names = ("connect_timeout", "first_token_timeout", "chunk_timeout", "total_timeout")
    environ = {f"CHATSTREAM_{name.upper()}": str(number) for number, name in enumerate(names)}
    config = read_config([], environ | {"CHATSTREAM_TRIM": "1"})
    assert ([getattr(config, name) for name in names], config.trim) == ([0, 1, 2, 3], True)
    assert Limits() == Limits(*(getattr(Config(), name) for name in names)), "said once as a default of the library's"
    assert not read_config([], {"CHATSTREAM_TRIM": "off"}).trim
    assert read_config(["--trim"], {"CHATSTREAM_TRIM": "no"}).trim


def test_an_option_wins_over_its_variable_and_the_variable_over_the_default() -> None:
    environ = {"CHATSTREAM_PORT": "1", "CHATSTREAM_MAX_TURNS": "3", "CHATSTREAM_ALLOWED_HOST": "a.example, b.example"}
    config = read_config(["--port", "2"], environ)
    assert (config.port, config.max_turns, config.allowed_hosts) == (2, 3, ("a.example", "b.example"))
    assert read_config(["--allowed-host=c.example"], environ).allowed_hosts == ("c.example",)


def test_tools_of_the_provider_are_parted_by_commas() -> None:
    environ = {"CHATSTREAM_PROVIDER_TOOLS": "web_search, code_execution,"}
    assert read_config([], environ).provider_tools == ("web_search", "code_execution")
    assert read_config(["--provider-tools=web_fetch"], environ).provider_tools == ("web_fetch",)
    assert read_config(["--provider-tools="], environ).provider_tools == ()


def test_the_system_prompt_is_a_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "system.md"
    file.write_text("Be brief.\n")
    assert read_config(["--system", str(file)], {}).system == "Be brief.\n"
    for text in ("Be kind.", "Be kind.\n" * 1000, "~nobody/x", "a\0b"):
        assert read_config(["--system", text], {}).system == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "x"], "--port"),
        (["--port", "70000"], "0 to 65535, not 70000"),
        (["--prot", "1"], "--prot"),
        (["--max-turns", "0"], "--max-turns must be above 0"),
        (["--temperature", "3"], "from 0 to 2, not 3.0"),
        (["--effort", "extreme"], "--effort"),
        (["--docs", "/nowhere"], "no folder /nowhere"),
        (["--record", ""], "--record: the name of the folder is missing"),
        (["--host", "0.0.0.0"], "needs --token"),
        (["--token", "short"], "at least 8"),
        (["--approve-within", "0"], "--approve-within must be above 0"),
        (["--approve-within", "inf"], "--approve-within must be 1e+09 at most, not inf"),
        (["--orphan-after", "-1"], "--orphan-after must be 0 or more, not -1.0"),
        (["--linger=-1"], "--linger must be 0 or more"),
        (["--max-runs=-1"], "--max-runs must be 0 or more, not -1"),
        (["--max-queue=-1"], "--max-queue must be 0 or more, not -1"),
        (["--keep-runs", "nan"], "--keep-runs must be 0 or more, not nan"),
        (["--grace", "soon"], "--grace"),
        (["--provider-tools", "web_search,telepathy"], "web_search, web_fetch, code_execution: not 'telepathy'"),
        (["--image-host=https://images.example"], "such as images.example or localhost:9000, and not 'https://"),
        (["--image-host=*.example"], "no scheme, path or wildcard"),
        (["--image-host=a.example; script-src *"], "--image-host"),
        (["--connect-timeout=-1"], "--connect-timeout must be 0 or more, not -1.0"),
        (["--first-token-timeout", "nan"], "--first-token-timeout must be 0 or more, not nan"),
        (["--chunk-timeout", "1e99"], "--chunk-timeout must be 1e+09 at most"),
        (["--total-timeout", "long"], "--total-timeout"),
        (["--trim=maybe"], "must be yes or no, not 'maybe'"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_takes(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(arguments, {})
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_no_other(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
