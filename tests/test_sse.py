"""The decoder against the examples and rules of the HTML standard, 9.2.6, at every way to cut the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.sse import Decoder, Frame, encode
from tests.cuts import every_cut, random_cut

EMOJI = "\N{GRINNING FACE}".encode()
# A stream, what it holds when its end is respected, and what `close` hands out beyond that.
CASES: dict[str, tuple[bytes, list[Frame], list[Frame]]] = {
    "the standard's stock ticker": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Frame(b"YHOO\n+2\n10")],
        [],
    ),
    "the standard's comments, ids and empty id": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [Frame(b"first event", id="1"), Frame(b"second event"), Frame(b" third event")],
        [],
    ),
    "the standard's empty data": (b"data\n\ndata\ndata\n\ndata:", [Frame(b""), Frame(b"\n")], [Frame(b"")]),
    "one space is dropped, not two": (
        b"data:test\n\ndata: test\n\ndata:  x\n\n",
        [Frame(b"test")] * 2 + [Frame(b" x")],
        [],
    ),
    "CRLF": (b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n", [Frame(b"1", b"a"), Frame(b"2")], []),
    "CR": (b"event: a\rdata: 1\r\rdata: 2\r\r", [Frame(b"1", b"a"), Frame(b"2")], []),
    "mixed line ends": (b"data: 1\r\n\ndata: 2\n\rdata: 3\r\r\n", [Frame(b"1"), Frame(b"2"), Frame(b"3")], []),
    "a byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [Frame(b"1")], []),
    "a mark that is not at the start belongs to the name": (b"data: 0\n\n\xef\xbb\xbfdata: 1\n\n", [Frame(b"0")], []),
    "a stream that is shorter than a mark": (b"\xef\xbb", [], []),
    "comments and unknown fields": (b":\n\n: x\nfoo: bar\ndata: 1\nretry: 10\n\n", [Frame(b"1")], []),
    "an event without data is dropped and its type with it": (b"event: a\n\ndata: 1\n\n", [Frame(b"1")], []),
    "an id that holds NUL is ignored": (
        b"id: 1\ndata: 1\n\nid: 2\0\ndata: 2\n\n",
        [Frame(b"1", id="1"), Frame(b"2", id="1")],
        [],
    ),
    "four-byte characters": (b"data: " + EMOJI + b"\n\n", [Frame(EMOJI)], []),
    "colons in the value": (b'data: {"a": "b:c"}\n\n', [Frame(b'{"a": "b:c"}')], []),
    "many blank lines": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [Frame(b"1"), Frame(b"2")], []),
    "no blank line at the end": (b"data: 1\n\ndata: [DONE]", [Frame(b"1")], [Frame(b"[DONE]")]),
    "one line end at the end": (b"data: 1\n\ndata: [DONE]\r\n", [Frame(b"1")], [Frame(b"[DONE]")]),
}


@pytest.mark.parametrize(("stream", "frames", "rest"), CASES.values(), ids=CASES)
def test_frames_do_not_depend_on_how_the_bytes_arrive(stream: bytes, frames: list[Frame], rest: list[Frame]) -> None:
    for chunks in every_cut(stream):
        decoder = Decoder()
        assert [frame for chunk in chunks for frame in decoder.feed(chunk)] == frames
        assert decoder.close() == rest


def test_the_last_id_and_the_retry_time_are_kept() -> None:
    decoder = Decoder()
    decoder.feed(b"id: 7\nretry: 1500\n\nid: 8\ndata: x\n\nretry: soon\n\n")
    assert (decoder.last_id, decoder.retry) == ("8", 1500)


def test_a_large_event_in_small_pieces_is_searched_once() -> None:
    """The work is counted, not timed: what is searched for the blank line again is at most a byte for each piece."""
    searched = 0

    class Counting(bytearray):
        def find(self, what: bytes, start: int) -> int:  # type: ignore[override]
            nonlocal searched
            searched += len(self) - start
            return super().find(what, start)

    event = b"data: " + b"x" * 1_000_000 + b"\n\n"
    decoder = Decoder()
    decoder.feed(b"data: 0\n\n")
    decoder._rest = Counting()
    frames = [frame for chunk in random_cut(event, 1, 5000) for frame in decoder.feed(chunk)]
    assert [len(frame.data) for frame in frames] == [1_000_000]
    assert searched < 1.1 * len(event)


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))), st.integers(0, 1000))
def test_what_was_encoded_is_decoded(values: list[bytes], seed: int) -> None:
    stream = b"".join(encode(value, str(number)) for number, value in enumerate(values))
    decoder = Decoder()
    frames = [frame for chunk in random_cut(stream, seed) for frame in decoder.feed(chunk)]
    assert frames == [Frame(value, id=str(number)) for number, value in enumerate(values)]


@given(st.binary(max_size=300), st.integers(0, 1000))
def test_any_bytes_give_the_same_frames_however_they_are_cut(stream: bytes, seed: int) -> None:
    whole, cut = Decoder(), Decoder()
    expected = whole.feed(stream) + whole.close()
    assert [frame for chunk in random_cut(stream, seed) for frame in cut.feed(chunk)] + cut.close() == expected
