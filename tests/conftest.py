"""What every test relies on: no real key is in reach, and nothing of the machine's settings is either."""

from __future__ import annotations

import os

for name in list(os.environ):
    if name.startswith(("ANTHROPIC_", "OPENAI_", "CHATSTREAM_")) and name != "CHATSTREAM_STREAMS":
        del os.environ[name]
# By default the threads of llama.cpp spin while they wait for each other, and take the processor from what runs beside
# them: half of the time that the local model's tests took (measured).
os.environ["OMP_WAIT_POLICY"] = "passive"
