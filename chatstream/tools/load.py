"""Loads a user's own tools (`--tools FILE_OR_MODULE`), and says in a line or two why they cannot be loaded."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ..errors import ConfigError
from .base import Tool

HOW = "A tools file holds functions marked @tool (from chatstream import tool); the README shows one."


def load_tools(name: str) -> list[Tool]:
    """Return every `Tool` among the globals of a file (`*.py` or with a slash) or a dotted module, in their order.

    A file's own folder can be imported from while it loads. Raises ConfigError where there is no such file or module,
    where it fails while it is imported, and where it holds no tool.
    """
    path = Path(name).expanduser().resolve() if name.endswith(".py") or "/" in name else None
    if path and not path.is_file():
        raise ConfigError(f"tools {name}: there is no such file.\n{HOW}")
    try:
        module = _load_file(path) if path else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"tools {name}: cannot be loaded: {_describe(error, path)}") from error
    tools = list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Tool)))
    if not tools:
        raise ConfigError(f"tools {name}: there is no tool in it.\n{HOW}")
    return tools


def _load_file(path: Path) -> ModuleType:
    # A name of its own, so that a file called json.py hides nothing; typing looks classes up in sys.modules.
    spec = importlib.util.spec_from_file_location(f"chatstream-tools:{path}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    finally:
        sys.path.remove(folder)
    return module


def _describe(error: BaseException, path: Path | None) -> str:
    text = f"{type(error).__name__}: {error}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: {text}" if lines else text  # a SyntaxError's own text names its line
