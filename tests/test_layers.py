"""The order of the modules: each imports only from those before it. What is costly is imported where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "chatstream"
ORDER = [
    *("errors", "config", "sse", "messages", "deltas", "events", "conversations", "turn", "wires", "tools"),
    *(
        "providers",
        "calls",
        "agent",
        "transfer",
        "database",
        "eventlog",
        "tables",
        "store",
        "cassettes",
        "replay",
        "places",
        "live",
    ),
    *("runs", "server", "testing", "__main__"),
]
MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute names of the modules that a file imports, anywhere in it but for type checkers alone."""
    package = ["chatstream", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    """Return the layer of a module's dotted name."""
    return name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imports(path):
        if name.startswith("chatstream.") and room(name) in ORDER:
            assert ORDER.index(room(name)) <= ORDER.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_borders_stay_where_they_are(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    names = set(imports(path))
    if own not in ("server", "testing"):
        assert not [name for name in names if name.startswith("aiohttp.web")], "aiohttp.web is the server's"
    assert not [name for name in names if name.split(".")[0] in ("anthropic", "openai")], "an SDK is loaded at its use"


@pytest.mark.parametrize(
    ("module", "costly"),
    [
        ("chatstream", {"aiohttp", "anthropic", "openai", "jsonschema", "orjson", "chatstream.agent"}),
        ("chatstream.agent", {"aiohttp", "anthropic", "openai", "jsonschema", "httpx2"}),
        ("chatstream.server", {"anthropic", "openai", "httpx2", "xllamacpp"}),
    ],
)
def test_importing_loads_nothing_costly(module: str, costly: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert costly.isdisjoint(loaded)


def test_every_public_name_can_be_had() -> None:
    import chatstream

    assert all(getattr(chatstream, name) is not None for name in chatstream.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        chatstream.nonsense  # noqa: B018
