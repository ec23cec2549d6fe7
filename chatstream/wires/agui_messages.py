"""The messages that AG-UI makes of a turn: each has its reasoning, then its text, and whatever calls belong to it.

    closed --think--> reasoning --speak--> text --shut--> shut --speak--> text
    closed --speak--> text                    any --think, where it has spoken; close--> closed

Its clients send no more back of a message than that, in that order, so a model that thinks again begins another one:
`ID`, `ID.2`, `ID.3`. Parts of reasoning that follow upon each other are one, whose `encryptedValue` has a list of what
is signed of each, with its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ..messages import Reasoning
from .base import pack

Frame = dict[str, Any]


class Messages:
    """What is open of the message that is being told; the methods return the frames which that takes.

    `id` is empty while there is no message.
    """

    def __init__(self, stem: str = "") -> None:
        self.id = ""
        self._stem = stem
        self._count = 0
        self._is_open = False  # the text
        self._has_spoken = False  # there is more than reasoning
        self._thoughts: list[Frame] | None = None  # what is signed of the reasoning, while that lasts

    @property
    def reasoning_id(self) -> str:
        return f"{self.id}-reasoning"

    def think(self) -> Iterator[Frame]:
        """Have a message whose reasoning is open."""
        if self._thoughts is None:
            if self._has_spoken:
                yield from self.close()
            self._begin()
            self._thoughts = []
            yield {"type": "REASONING_START", "messageId": self.reasoning_id}
            yield {"type": "REASONING_MESSAGE_START", "messageId": self.reasoning_id, "role": "reasoning"}
            yield from self._open()

    def sign(self, part: Reasoning) -> None:
        """Note what the provider wants back with a part of the reasoning."""
        if self._thoughts is not None:
            self._thoughts.append({"length": len(part.text)} | pack(part))

    def speak(self) -> Iterator[Frame]:
        """Have a message whose text is open."""
        yield from self._end_reasoning()
        if not self.id:
            self._begin()
        self._has_spoken = True
        yield from self._open()

    def shut(self) -> Iterator[Frame]:
        """Have a message whose text was open and is not any more, for a call to belong to."""
        if not self._has_spoken:
            yield from self.speak()
        yield from self._end_text()

    def close(self) -> Iterator[Frame]:
        """End the message; what is said next begins another one."""
        yield from self._end_reasoning()
        yield from self._end_text()
        self.id, self._has_spoken = "", False

    def _begin(self) -> None:
        self._count += 1
        self.id = f"{self._stem}.{self._count}" if self._count > 1 else self._stem

    def _open(self) -> Iterator[Frame]:
        if not self._is_open:
            self._is_open = True
            yield {"type": "TEXT_MESSAGE_START", "messageId": self.id, "role": "assistant"}

    def _end_text(self) -> Iterator[Frame]:
        if self._is_open:
            self._is_open = False
            yield {"type": "TEXT_MESSAGE_END", "messageId": self.id}

    def _end_reasoning(self) -> Iterator[Frame]:
        if self._thoughts is not None:
            signed = {"entityId": self.reasoning_id, "encryptedValue": orjson.dumps(self._thoughts).decode()}
            yield {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message"} | signed
            yield {"type": "REASONING_MESSAGE_END", "messageId": self.reasoning_id}
            yield {"type": "REASONING_END", "messageId": self.reasoning_id}
            self._thoughts = None
