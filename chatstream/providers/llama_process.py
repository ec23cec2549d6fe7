"""The child process that runs a GGUF model by llama.cpp: `python -m chatstream.providers.llama_process FILE`.

It prints the address of its HTTP server on loopback as its only line, and ends when its standard input does, so it
never outlives its parent. A process of its own, because loading holds the GIL for a second (measured) and because a
crash inside llama.cpp then ends one answer, not the server.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys


def main(path: str) -> None:
    # Ctrl-C goes to every process of the terminal: the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    xllamacpp = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_parallel = 4
    # The answers that run at once share the context instead of each having a fixed quarter of it.
    parameters.kv_unified = True
    parameters.verbosity = -1
    parameters.ui = False
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        sys.exit(str(error))
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
