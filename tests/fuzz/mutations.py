"""Ways to break a stream of server-sent events: the steps that lead from a good one to a bad one.

A `Step` is the name of a mutation and a seed, so a broken stream can be told in a line, and made smaller by leaving
steps out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import orjson

Step = tuple[str, int]
Frames = list[bytes]
Path = tuple[Any, int | str]  # what holds the value, and where in it

DEEP = "(deep)"
DEPTHS = (300, 1500)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 1e308, 0.5),
    *("", " ", "x", "0", "12", "null", "{", '{"a":', "\x00", "\ud83d", "\N{GRINNING FACE}", "x" * 20_000, "é/" * 60),
    *([], {}, [[]], [None], [1, "x"], {"type": "x"}, {"": {}}, {"type": "text", "text": "x"}, {"a": [{}] * 50}, DEEP),
)


def split(data: bytes) -> Frames:
    return re.findall(rb"(?s).+?(?:\r\n\r\n|\n\n|$)", data)


def mutate(data: bytes, steps: list[Step]) -> bytes:
    frames = split(data)
    for name, seed in steps:
        if frames:
            frames = STEPS[name](frames, random.Random(seed))
    return b"".join(frames)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _cut(frames: Frames, chance: random.Random) -> Frames:
    data = b"".join(frames)
    return split(data[: chance.randrange(len(data))])


def _flip(frames: Frames, chance: random.Random) -> Frames:
    data = bytearray(b"".join(frames))
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return split(bytes(data))


def _lose(frames: Frames, chance: random.Random) -> Frames:
    data = b"".join(frames)
    at = chance.randrange(len(data))
    return split(data[:at] + data[at + chance.randint(1, 60) :])


def _insert(frames: Frames, chance: random.Random) -> Frames:
    data = b"".join(frames)
    at = chance.randrange(len(data))
    extra = chance.choice([b"\n", b"\r", b"\n\n", b"\xff", b"data: ", b"data: [DONE]\n\n", b": c\n", b"event: error\n"])
    return split(data[:at] + extra + data[at:])


# --- events -----------------------------------------------------------------------------------------------------------


def _drop(frames: Frames, chance: random.Random) -> Frames:
    at = chance.randrange(len(frames))
    return frames[:at] + frames[at + chance.choice([1, 1, 1, 3, 10]) :]


def _double(frames: Frames, chance: random.Random) -> Frames:
    at = chance.randrange(len(frames))
    return frames[:at] + [frames[at]] * chance.choice([2, 2, 3, 40]) + frames[at + 1 :]


def _move(frames: Frames, chance: random.Random) -> Frames:
    moved = list(frames)
    frame = moved.pop(chance.randrange(len(moved)))
    moved.insert(chance.randint(0, len(moved)), frame)
    return moved


def _shuffle(frames: Frames, chance: random.Random) -> Frames:
    at = chance.randrange(len(frames))
    end = at + chance.choice([3, 8, len(frames)])
    some = frames[at:end]
    chance.shuffle(some)
    return frames[:at] + some + frames[end:]


def _again(frames: Frames, chance: random.Random) -> Frames:
    """Begin anew in mid-stream."""
    at = chance.randrange(len(frames))
    return frames[:at] + frames


# --- JSON -------------------------------------------------------------------------------------------------------------


def _in_json(change: Callable[[list[Path], random.Random], None]) -> Callable[[Frames, random.Random], Frames]:
    """Return the mutation that changes something in the JSON of one event."""

    def step(frames: Frames, chance: random.Random) -> Frames:
        at = chance.randrange(len(frames))
        begin, mark, rest = frames[at].partition(b"data:")
        try:
            holder = {"": orjson.loads(rest)}
            change(_paths(holder), chance)
            data = orjson.dumps(_whole(holder.get("")))
        except (ValueError, TypeError):  # no JSON, or too deep already
            return frames
        deep = chance.choice(DEPTHS)
        data = data.replace(orjson.dumps(DEEP), b"[" * deep + b"]" * deep)
        return [*frames[:at], begin + mark + b" " + data + b"\n\n", *frames[at + 1 :]]

    return step


def _paths(holder: Any) -> list[Path]:
    """Return every place of a value, the whole of it first."""
    found: list[Path] = []
    todo = [holder]
    while todo:
        value = todo.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in list(items):
            found.append((value, key))
            if isinstance(each, dict | list):
                todo.append(each)
    return found


def _whole(value: Any) -> Any:
    """Return the value without the halves of characters that cannot be written; JSON may hold them all the same."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _replace(paths: list[Path], chance: random.Random) -> None:
    holder, key = chance.choice(paths)
    holder[key] = chance.choice(VALUES)


def _remove(paths: list[Path], chance: random.Random) -> None:
    holder, key = chance.choice(paths)
    del holder[key]


def _swap(paths: list[Path], chance: random.Random) -> None:
    (one, at), (other, there) = chance.choice(paths), chance.choice(paths)
    one[at], other[there] = _copy(other[there]), _copy(one[at])


def _copy(value: Any) -> Any:
    """Return a copy: what is put into itself could not be written."""
    return orjson.loads(orjson.dumps(value))


def _wrap(paths: list[Path], chance: random.Random) -> None:
    holder, key = chance.choice(paths)
    holder[key] = chance.choice([lambda value: [value], lambda value: {"x": value}, str, lambda value: [value] * 3])(
        _copy(holder[key])
    )


def _reindex(paths: list[Path], chance: random.Random) -> None:
    indexes = [path for path in paths if path[1] in ("index", "output_index", "content_index", "id", "item_id", "type")]
    for holder, key in chance.sample(indexes, min(len(indexes), 2)):
        holder[key] = chance.choice([0, 1, 2, 7, -1, 10**9, 2**63, 1.5, None, "0", "", "a", "text", "error", [], {}])


def _add(paths: list[Path], chance: random.Random) -> None:
    holder, _ = chance.choice(paths)
    if isinstance(holder, dict):
        holder[chance.choice(["error", "type", "id", "index", "delta", "usage", "content", "signature"])] = (
            chance.choice(VALUES)
        )


STEPS: dict[str, Callable[[Frames, random.Random], Frames]] = {
    "cut": _cut,
    "flip": _flip,
    "lose": _lose,
    "insert": _insert,
    "drop": _drop,
    "double": _double,
    "move": _move,
    "shuffle": _shuffle,
    "again": _again,
    "replace": _in_json(_replace),
    "remove": _in_json(_remove),
    "swap": _in_json(_swap),
    "wrap": _in_json(_wrap),
    "reindex": _in_json(_reindex),
    "add": _in_json(_add),
}
