"""A user's tools are loaded from a file or a module, or the operator reads in a line or two why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatstream.errors import ConfigError
from chatstream.tools import builtin_tools, load_tools

TOOLS = """
from __future__ import annotations
from typing import TypedDict
from chatstream.tools import tool
from helper_beside_it import NUMBER

class Pair(TypedDict):
    a: int

@tool
def zwei(pair: Pair) -> int:
    return NUMBER

@tool(name="one")
def eins() -> str:
    return "1"

again = zwei
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper_beside_it.py").write_text("NUMBER = 2")
    (tmp_path / "json.py").write_text(TOOLS)
    return tmp_path / "json.py"


def test_a_file_gives_its_tools_in_their_order_and_imports_from_its_own_folder(file, monkeypatch):
    monkeypatch.delitem(sys.modules, "helper_beside_it", raising=False)
    path = list(sys.path)

    tools = load_tools(str(file))

    assert [tool.name for tool in tools] == ["zwei", "one"]
    assert tools[0]({"a": 1}) == 2
    assert sys.path == path
    assert hasattr(sys.modules["json"], "loads")


def test_a_module_gives_its_tools():
    assert [tool.name for tool in load_tools("chatstream.tools.calculate")] == ["calculate"]


BROKEN = [
    ("def", "SyntaxError: .*line 1"),
    ("import os\nimport nowhere_at_all", "line 2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ("\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
    ("raise SystemExit(1)", "line 1: SystemExit: 1"),
    ("from chatstream.tools import tool\n@tool\ndef f(a): ...", "ConfigError: tool f: parameter a has no annotation"),
    ("def f(): ...", "there is no tool in it.\n.*@tool"),
    ("\0", "cannot be loaded: "),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_file_that_gives_no_tools_is_an_error_in_a_line_or_two(tmp_path, text, message):
    path = tmp_path / "tools.py"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message) as caught:
        load_tools(str(path))

    assert caught.value.message.startswith(f"tools {path}: ")
    assert caught.value.message.count("\n") <= 1
    assert not [name for name in sys.modules if name.endswith(str(path)) and "no tool in it" not in message]


@pytest.mark.parametrize("name", ["nowhere.py", "./nowhere", "/"])
def test_a_file_that_does_not_exist_is_an_error_that_shows_a_tools_file(name):
    with pytest.raises(ConfigError, match=r"no such file\.\n.*@tool"):
        load_tools(name)


@pytest.mark.parametrize("name", ["nowhere_at_all", "", ".relative", "json"])
def test_a_module_that_gives_no_tools_is_an_error(name):
    with pytest.raises(ConfigError, match=f"tools {name}: "):
        load_tools(name)


def test_the_built_in_tools_only_read_and_each_parameter_is_described(tmp_path):
    tools = builtin_tools(tmp_path)

    assert [tool.name for tool in tools] == ["get_weather", "search_docs", "calculate", "current_time"]
    for tool in tools:
        assert tool.read_only
        assert tool.description
        assert all(schema["description"] for schema in tool.parameters["properties"].values())


def test_the_package_and_its_built_in_tools_are_imported_without_aiohttp_and_jsonschema(tmp_path):
    program = f"""
import sys, pathlib, chatstream.tools
assert "chatstream.tools.base" not in sys.modules
chatstream.tools.Toolbox(chatstream.tools.builtin_tools(pathlib.Path({str(tmp_path)!r})))
assert not {{"aiohttp", "jsonschema"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_a_hanging_tool_does_not_keep_the_process_from_ending():
    program = """
import asyncio, threading
from chatstream.messages import ToolCall
from chatstream.tools import Toolbox, tool
hang = tool(timeout=0.05, name="hang")(lambda: threading.Event().wait())
print(asyncio.run(Toolbox([hang]).execute(ToolCall("1", "hang", {}), print)).is_error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], capture_output=True
    )

    assert done.stdout == b"True\n"
