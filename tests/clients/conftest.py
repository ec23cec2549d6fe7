"""The fixtures of the server's tests, for those that drive a real client against it."""

from __future__ import annotations

from tests.server.conftest import fake, gate, launch, program, run_app, stack, start, write_script

__all__ = ["fake", "gate", "launch", "program", "run_app", "stack", "start", "write_script"]
