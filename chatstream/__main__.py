"""`python -m chatstream`: serve the API and the page. `--help` lists the options."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import sys

from .config import Config, read_config
from .errors import ChatstreamError


def main() -> int:
    """Run the server; returns 0 after Ctrl-C or SIGTERM, 2 where it could not start."""
    try:
        config = read_config(sys.argv[1:])
        logging.basicConfig(
            level=config.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        logging.getLogger("aiohttp.server").addFilter(_one_line)
        # The SDKs' HTTP client logs every request; our access log says enough.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        _run(config)
    except ChatstreamError as error:
        print(f"chatstream: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _one_line(record: logging.LogRecord) -> bool:
    """Leave the traceback out of what aiohttp logs of a request that is no HTTP."""
    if record.exc_info and record.exc_info[1]:
        told = str(record.exc_info[1])[:200]
        record.msg, record.args, record.exc_info = "%s: %r", (record.getMessage(), told), None
    return True


def _run(config: Config) -> None:
    from .server import serve

    factory = None
    if importlib.util.find_spec("uvloop") is not None:
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(config))


if __name__ == "__main__":
    sys.exit(main())
