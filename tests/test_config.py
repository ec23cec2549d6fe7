"""Settings: where they come from, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatstream.config import Config, is_loopback, read_config
from chatstream.errors import ConfigError


def test_nothing_given_is_the_default() -> None:
    assert read_config([], {}) == Config()


def test_an_option_wins_over_its_variable_and_the_variable_over_the_default() -> None:
    environ = {"CHATSTREAM_PORT": "1", "CHATSTREAM_MAX_TURNS": "3", "CHATSTREAM_ALLOWED_HOST": "a.example, b.example"}
    config = read_config(["--port", "2"], environ)
    assert (config.port, config.max_turns, config.allowed_hosts) == (2, 3, ("a.example", "b.example"))
    assert read_config(["--allowed-host=c.example"], environ).allowed_hosts == ("c.example",)


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
        (["--host", "0.0.0.0"], "needs --token"),
        (["--token", "short"], "at least 8"),
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
