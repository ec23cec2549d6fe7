"""What an operator can set: options of the command line, each also an environment variable `CHATSTREAM_...`.

The option wins over the variable, the variable over the default. Everything that can be checked without opening a
connection is checked here, so that a bad setting is a message at the start.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .errors import ConfigError

MiB = 1024 * 1024
LONGEST = 1e9  # seconds: thirty years


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one server. `allowed_hosts` are names of it beside the loopback ones; times are in seconds.

    `cors_origins` are the origins of other pages that may ask, each as `read_origin` takes it. From `image_hosts` the
    page may load an image of an answer in place, once it is clicked.
    Of `max_runs` 0 is no limit; `max_queue` is how many more may wait then.
    `data` is the folder of the database, None to keep everything in memory; the program's own default is a folder in
    the user's home.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    model: str = ""
    system: str = ""
    max_output_tokens: int = 4096
    temperature: float | None = None
    effort: str | None = None
    max_turns: int = 20
    trim: bool = False
    connect_timeout: float = 10.0
    first_token_timeout: float = 300.0
    chunk_timeout: float = 180.0
    total_timeout: float = 1800.0
    docs: Path | None = None
    tools: tuple[str, ...] = ()
    provider_tools: tuple[str, ...] = ()
    max_body: int = 32 * MiB
    max_runs: int = 0
    max_queue: int = 100
    heartbeat: float = 15.0
    data: Path | None = None
    record: Path | None = None
    orphan_after: float = 300.0
    linger: float = 10.0
    keep_runs: float = 3600.0
    approve_within: float = 86400.0
    grace: float = 10.0
    log_level: str = "info"


def _yes_or_no(text: str) -> bool:
    values = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    try:
        return values[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"must be yes or no, not {text!r}") from None


_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("host", {"help": "address to listen on; another than loopback needs --token (default: 127.0.0.1)"}),
    ("port", {"type": int, "help": "port to listen on, 0 for any free one (default: 8000)"}),
    ("token", {"help": "what a client must show: as 'Authorization: Bearer ...', or a browser by its cookie"}),
    ("allowed-host", {"action": "append", "help": "a name by which clients reach the server; may be repeated"}),
    (
        "cors-origin",
        {"action": "append", "help": "the origin of a page elsewhere that may use the API; may be repeated"},
    ),
    (
        "image-host",
        {"action": "append", "help": "a host whose images the page shows in place when clicked; may be repeated"},
    ),
    ("model", {"help": "provider:model, such as anthropic:claude-sonnet-5-5, local:FILE.gguf or scripted:demo"}),
    ("system", {"help": "the system prompt: a text, or the name of a file that holds it"}),
    ("max-output-tokens", {"type": int, "help": "most tokens of one answer (default: 4096)"}),
    ("temperature", {"type": float, "help": "sampling temperature, sent to the models that take one"}),
    ("effort", {"choices": ["low", "medium", "high"], "help": "how hard a model that reasons shall think"}),
    ("max-turns", {"type": int, "help": "how often the model is asked in one run at most (default: 20)"}),
    (
        "trim",
        {"nargs": "?", "const": True, "type": _yes_or_no, "help": "leave out the oldest where a chat is too long"},
    ),
    ("connect-timeout", {"type": float, "help": "seconds to connect to a provider, 0 for any time (default: 10)"}),
    ("first-token-timeout", {"type": float, "help": "seconds until its answer begins, 0 for any (default: 300)"}),
    ("chunk-timeout", {"type": float, "help": "seconds of silence in an answer, 0 for any (default: 180)"}),
    ("total-timeout", {"type": float, "help": "seconds for a whole answer, 0 for any (default: 1800)"}),
    ("docs", {"help": "folder of text and Markdown that search_docs searches (default: chatstream's README)"}),
    ("tools", {"action": "append", "help": "a Python file or module whose tools are added; may be repeated"}),
    (
        "provider-tools",
        {
            "help": "tools that the provider runs itself and bills, parted by commas: web_search, web_fetch, "
            "code_execution; a provider that has no such tool is asked without it"
        },
    ),
    ("max-body", {"type": int, "help": "largest request body in bytes (default: 33554432)"}),
    ("max-runs", {"type": int, "help": "answers that are written at once, 0 for any number (default: 0)"}),
    ("max-queue", {"type": int, "help": "answers that wait for their turn then; more get a 503 (default: 100)"}),
    ("heartbeat", {"type": float, "help": "seconds of silence after which a stream sends a comment (default: 15)"}),
    ("data", {"help": "folder of the database, or :memory: to keep nothing (default: ~/.local/share/chatstream)"}),
    ("record", {"help": "folder in which each run is saved as one file, for a bug report or to be replayed"}),
    ("orphan-after", {"type": float, "help": "seconds that a stored answer goes on unwatched (default: 300)"}),
    ("linger", {"type": float, "help": "the same where the caller keeps the conversation (default: 10)"}),
    ("keep-runs", {"type": float, "help": "seconds that a finished answer can be streamed again (default: 3600)"}),
    ("approve-within", {"type": float, "help": "seconds after which an open approval is denied (default: 86400)"}),
    ("grace", {"type": float, "help": "seconds that running answers have to finish at the end (default: 10)"}),
    ("log-level", {"choices": ["debug", "info", "warning", "error"], "help": "(default: info)"}),
)
PROVIDER_TOOLS = ("web_search", "web_fetch", "code_execution")
# Names of options whose value in `Config` is called otherwise, being a list.
_RENAMED = {"allowed_host": "allowed_hosts", "cors_origin": "cors_origins", "image_host": "image_hosts"}
_HOST_NAME = re.compile(r"[\w.-]+|\[[\da-f:.]+\]", re.ASCII | re.IGNORECASE)
_IMAGE_HOST = re.compile(r"[a-z\d-]+(\.[a-z\d-]+)*(:\d{1,5})?", re.ASCII)
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z\d+.-]*)://(?P<host>\w[\w-]*(\.\w[\w-]*)*\.?|\[[\da-f:.]+\])(:(?P<port>\d{1,5}))?"
    r"(?P<rest>[/?#].*)?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_OF_PAGES = ("file", "ws", "wss", "data", "blob")  # what these open is no page, or has the origin 'null'


_EPILOG = (
    "Each option is also an environment variable: CHATSTREAM_MAX_TURNS for --max-turns. Without --model the first of "
    "anthropic, openai, local and scripted that can be used answers. Another command: python -m chatstream replay FILE "
    "plays what --record saved."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} ({self.prog} --help lists the options)")


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """What `replay` is told: the cassette, how many times as fast it goes, and whether it is only checked."""

    file: Path
    speed: float
    check: bool
    server: Config


def read_replay(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> ReplayConfig:
    """Return the settings of `python -m chatstream replay`; raises ConfigError."""
    about = "Play a run that --record saved, with no key: into the page, or against this version."
    epilog = "The options of the server, such as --port, go along: python -m chatstream --help."
    parser = _Parser(prog="python -m chatstream replay", description=about, epilog=epilog)
    parser.add_argument("file", type=Path, help="a file of the folder that --record named")
    parser.add_argument("--speed", type=_speed, default=1.0, help="times as fast as it was, 0 or max for at once")
    parser.add_argument("--check", action="store_true", help="compare its events with what this version makes of it")
    mine, rest = parser.parse_known_args(arguments)
    return ReplayConfig(mine.file, mine.speed, mine.check, read_config(rest, environ))


def _speed(text: str) -> float:
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not speed >= 0:
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, or max, and not {text!r}")
    return speed or math.inf


def read_config(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the settings; raises ConfigError that names the option and what it takes."""
    about = "Serve an LLM chat: the API, and the page at /."
    parser = _Parser(prog="python -m chatstream", description=about, epilog=_EPILOG)
    for name, options in _OPTIONS:
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, **options)
    found = _from_environment(environ, arguments)
    for variable, option in found:
        try:
            parser.parse_args([option])
        except ConfigError as error:
            raise ConfigError(f"{variable}: {error.message}") from error
    values = vars(parser.parse_args([*(option for _, option in found), *arguments]))
    for name in ("docs", "record"):
        if name in values:
            values[name] = _path(name, values[name])
    data = values.get("data", "") or _default_data(environ)
    values["data"] = None if data == ":memory:" else _path("data", data)
    if "system" in values:
        values["system"] = _text_or_file(values["system"])
    for name in ("allowed_host", "cors_origin", "image_host", "tools"):
        if name in values:
            values[_RENAMED.get(name, name)] = tuple(values.pop(name))
    if "cors_origins" in values:
        values["cors_origins"] = tuple(dict.fromkeys(map(read_origin, values["cors_origins"])))
    if "image_hosts" in values:
        values["image_hosts"] = tuple(dict.fromkeys(map(read_image_host, values["image_hosts"])))
    if "provider_tools" in values:
        names = map(str.strip, values["provider_tools"].split(","))
        values["provider_tools"] = tuple(dict.fromkeys(filter(None, names)))
    config = Config(**values)
    _check(config)
    return config


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an address, is this machine and no other."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_origin(text: str) -> str:
    """Return an origin as browsers send it: in small letters, and without the port that goes without saying.

    Raises ConfigError that says what to write (https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin).
    """
    if text == "*":
        raise _no_origin(text, "any page at all could use your models and tools")
    if text == "null":
        raise _no_origin(text, "any file and any frame in a sandbox is called that")
    met = _ORIGIN.fullmatch(text)
    if met is None:
        scheme = "http" if is_loopback(text.partition(":")[0].lower()) else "https"
        named = _ORIGIN.fullmatch(f"{scheme}://{text}")
        raise _no_origin(text, f"write {_serialise(named, text)}" if named else "")
    origin = _serialise(met, text)
    if met["rest"]:
        raise _no_origin(text, f"write {origin}")
    return origin


def read_image_host(text: str) -> str:
    """Return a host as the page names it, in small letters; raises ConfigError that says what to write."""
    host = text.lower()
    if not _IMAGE_HOST.fullmatch(host):
        wanted = "the name of a host, such as images.example or localhost:9000"
        raise ConfigError(f"--image-host takes {wanted}, and not {text!r}: no scheme, path or wildcard")
    return host


def _serialise(met: re.Match[str], text: str) -> str:
    scheme, host, port = met["scheme"].lower(), met["host"].lower(), int(met["port"] or 0)
    if scheme in _NOT_OF_PAGES or port > 65535 or (met["port"] and not port):
        raise _no_origin(text)
    if host.startswith("[") or host.rpartition(".")[2].isdecimal():
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise _no_origin(text) from None
        host = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{host}" + (f":{port}" if port not in (0, _DEFAULT_PORTS.get(scheme)) else "")


def _no_origin(text: str, why: str = "") -> ConfigError:
    wanted = "the origin of a page, such as https://app.example or http://localhost:5173"
    return ConfigError(f"--cors-origin takes {wanted}, and not {text!r}" + (f": {why}" if why else ""))


def _path(option: str, value: str) -> Path:
    if not value:
        raise ConfigError(f"--{option}: the name of the folder is missing")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # there is no such home
        raise ConfigError(f"--{option}: cannot find the folder {value}: {error}; name another one") from error


def _default_data(environ: Mapping[str, str]) -> str:
    # https://specifications.freedesktop.org/basedir-spec/latest/
    home = environ.get("XDG_DATA_HOME", "")
    return f"{home if home.startswith('/') else '~/.local/share'}/chatstream"


def _from_environment(environ: Mapping[str, str], arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the variables and the options that they stand for; lists are parted by commas.

    A variable whose option is given on the command line is left out.
    """
    given = {argument.partition("=")[0] for argument in arguments}
    found = []
    for name, options in _OPTIONS:
        variable = f"CHATSTREAM_{name.upper().replace('-', '_')}"
        if (text := environ.get(variable)) and f"--{name}" not in given:
            values = text.split(",") if options.get("action") == "append" else [text]
            found += [(variable, f"--{name}={value.strip()}") for value in values]
    return found


def _text_or_file(value: str) -> str:
    """Return the text, or what the file of that name holds; one word that ends like a text file has to be one."""
    try:
        path = Path(value).expanduser()
        if path.is_file():
            return path.read_text("utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        if "\n" not in value and len(value) < 256:
            raise ConfigError(f"--system: cannot read {value}: {error}") from error
    if re.fullmatch(r"\S+\.(md|txt)", value):
        raise ConfigError(f"--system: there is no file {value}")
    return value


def _check(config: Config) -> None:
    if not 0 <= config.port <= 65535:
        raise ConfigError(f"--port must be from 0 to 65535, not {config.port}")
    limits = ("connect_timeout", "first_token_timeout", "chunk_timeout", "total_timeout")
    for name in ("heartbeat", "orphan_after", "linger", "keep_runs", "approve_within", "grace", *limits):
        if getattr(config, name) > LONGEST:
            raise ConfigError(f"--{name.replace('_', '-')} must be {LONGEST:g} at most, not {getattr(config, name)}")
    for name in ("max_output_tokens", "max_turns", "max_body", "heartbeat", "approve_within"):
        if not getattr(config, name) > 0:  # neither is nan
            raise ConfigError(f"--{name.replace('_', '-')} must be above 0, not {getattr(config, name)}")
    for name in ("orphan_after", "linger", "keep_runs", "grace", "max_runs", "max_queue", *limits):
        if not getattr(config, name) >= 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be 0 or more, not {getattr(config, name)}")
    if config.temperature is not None and not 0 <= config.temperature <= 2:
        raise ConfigError(f"--temperature must be from 0 to 2, not {config.temperature}")
    if config.docs is not None and not config.docs.exists():
        raise ConfigError(f"--docs: there is no folder {config.docs}")
    for name in config.provider_tools:
        if name not in PROVIDER_TOOLS:
            raise ConfigError(f"--provider-tools takes {', '.join(PROVIDER_TOOLS)}: not {name!r}")
    for host in config.allowed_hosts:
        if not _HOST_NAME.fullmatch(host):
            raise ConfigError(f"--allowed-host takes a name such as chat.example, no address or port: not {host!r}")
    if not is_loopback(config.host) and not config.token:
        raise ConfigError(
            f"--host {config.host} can be reached from other machines, so it needs --token: "
            "anybody who knows the token can use your models and tools, and nobody else"
        )
    if config.token and (len(config.token) < 8 or not config.token.isascii() or not config.token.isprintable()):
        raise ConfigError("--token must be at least 8 printable ASCII characters")
