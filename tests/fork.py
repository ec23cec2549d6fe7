"""Starts servers as processes of their own, without what importing them costs: each is forked from one that has them.

It imports neither pytest nor Playwright, so that what is forked has neither.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import TextIO

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "chatstream.__main__", "chatstream.server", "chatstream.server.replay"])


def start(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[ForkServerProcess, TextIO]:
    """Run `python -m chatstream` with arguments; returns the process and what it writes, to either output."""
    reader, writer = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(arguments, dict(environment), writer))
    process.start()
    writer.close()
    return process, os.fdopen(os.dup(reader.fileno()))


def _run(arguments: Sequence[str], environment: Mapping[str, str], output: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.argv[1:] = arguments
    from chatstream.__main__ import main

    sys.exit(main())
