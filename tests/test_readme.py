"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatstream.config import read_config
from chatstream.tools import load_tools

README = (Path(__file__).parents[1] / "README.md").read_text()
TOOL, LIBRARY, _, TESTING = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

pytest_plugins = ["pytester"]


def test_the_tools_file_loads(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TOOL)
    (stock,) = load_tools(str(file))
    assert stock.read_only and stock.parameters["required"] == ["item"]
    assert stock.parameters["properties"]["item"]["description"] == "the item's number"


def test_the_library_example_runs() -> None:
    # The scripted provider stands in for the model where none is installed; the rest is as it is read.
    program = TOOL + LIBRARY.replace('get_provider("local")', 'get_provider("scripted")')
    # Its demo is played at the pace of a reader.
    program = f"import asyncio\nsleep = asyncio.sleep\nasyncio.sleep = lambda delay: sleep(0)\n{program}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "scripted demo" in done.stdout and "RunFinished" in done.stdout


def test_the_example_of_a_test_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTING)
    result = pytester.runpytest_inprocess("-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "-W", "ignore")
    result.assert_outcomes(passed=1)


def test_every_option_is_told_and_exists() -> None:
    told = set(re.findall(r"`(--[a-z-]+)`", README.partition("## Options")[2].partition("## Safety")[0]))
    known = set(
        re.findall(r'^    \(\s*"([a-z-]+)"', Path(sys.modules[read_config.__module__].__file__ or "").read_text(), re.M)
    )
    assert told == {f"--{name}" for name in known}
