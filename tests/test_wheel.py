"""The wheel is whole: unpacked anywhere it serves the API and the page, with the page's libraries inside."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

from chatstream.server.page import strip

ROOT = Path(__file__).parents[1]


def build(folder: Path) -> Path:
    """Build the wheel from a copy, so that nothing is left in the checkout."""
    source = folder / "source"
    shutil.copytree(ROOT / "chatstream", source / "chatstream", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "web", source / "web", ignore=shutil.ignore_patterns("typescript", "@typescript", "axe-core")
    )
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(pip, cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("chatstream-*.whl")
    return wheel


async def test_a_wheel_serves_the_page_from_inside_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(await asyncio.to_thread(build, tmp_path)) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "site")
    assert not [name for name in names if name.startswith(("tests", "web", "scripts"))]
    assert {"chatstream/py.typed", "chatstream/README.md", "chatstream/web/index.html"} <= set(names)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "chatstream", "--port", "0", "--model", "scripted:demo", "--data", ":memory:"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split("ready: ")[1].split()[0]
        page = await asyncio.to_thread(get, f"{address}/")
        assert b"<title>chatstream</title>" in page
        assert page == strip((ROOT / "web" / "index.html").read_bytes(), ".html")
        assert b"export" in await asyncio.to_thread(get, f"{address}/node_modules/marked/lib/marked.esm.js")
        assert b"export" in await asyncio.to_thread(
            get, f"{address}/node_modules/@speed-highlight/core/dist/tokenize.js"
        )
    finally:
        process.terminate()
        await process.wait()


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        body: bytes = answer.read()
    return body
