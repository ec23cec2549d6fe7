"""How much work something is, so that noise on a machine does not tell."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def cpu(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that `work` takes on this thread.

    No collection runs within: a full one looks at what all other tests hold, which is not this work.
    """
    gc.disable()
    began = time.thread_time()
    try:
        work()
        return time.thread_time() - began
    finally:
        gc.enable()
