"""`python -m chatstream`: serve the API and the page, or `replay FILE`, a recorded run. `--help` lists the options."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from .config import Config, ReplayConfig, read_config, read_replay
from .errors import ChatstreamError


def main() -> int:
    """Run the server; returns 0 after Ctrl-C or SIGTERM, 2 where it could not start (1: `replay --check` failed)."""
    gc.disable()  # until all is loaded: nearly nothing of it is garbage, and looking for some takes 0.2 s (measured)
    try:
        if sys.argv[1:2] == ["replay"]:
            replay = read_replay(sys.argv[2:])
            _log_to_stderr(replay.server)
            if replay.check:
                return _check(replay)
            _run(_replay(replay))
        else:
            config = read_config(sys.argv[1:])
            _log_to_stderr(config)
            _run(_serve(config))
    except ChatstreamError as error:
        print(f"chatstream: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    finally:
        gc.enable()
    return 0


def _log_to_stderr(config: Config) -> None:
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("aiohttp.server").addFilter(_one_line)
    # The SDKs' HTTP client logs every request; our access log says enough.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def _one_line(record: logging.LogRecord) -> bool:
    """Leave the traceback out of what aiohttp logs of a request that is no HTTP."""
    if record.exc_info and record.exc_info[1]:
        told = str(record.exc_info[1])[:200]
        record.msg, record.args, record.exc_info = "%s: %r", (record.getMessage(), told), None
    return True


async def _serve(config: Config) -> None:
    from .server import Server, serve

    await serve(Server(config))


async def _replay(replay: ReplayConfig) -> None:
    from .cassettes import read_cassette
    from .server import serve
    from .server.replay import ReplayServer

    await serve(ReplayServer(replay.server, read_cassette(replay.file), replay.speed))


def _check(replay: ReplayConfig) -> int:
    """Print whether this version makes of a recording what was made of it then."""
    from .replay import verify

    try:
        _run(verify(replay.file))
    except AssertionError as error:
        print(f"{replay.file.name}: {error}")
        return 1
    print(f"{replay.file.name}: every event is as it was recorded")
    return 0


def _run(work: Coroutine[Any, Any, None]) -> None:
    factory = None
    if importlib.util.find_spec("uvloop") is not None:
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


if __name__ == "__main__":
    sys.exit(main())
