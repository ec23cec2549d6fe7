"""What every test relies on: no real key is in reach, and nothing of the machine's settings is either."""

from __future__ import annotations

import os

for name in list(os.environ):
    if name.startswith(("ANTHROPIC_", "OPENAI_", "CHATSTREAM_")) and name != "CHATSTREAM_STREAMS":
        del os.environ[name]
