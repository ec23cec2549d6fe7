"""Images in questions: looked at before the run begins, sent to each API as it takes them, later in nobody's way."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest

from chatstream.messages import length, messages_from_json
from chatstream.server.images import MAX_DATA, MAX_IMAGES
from chatstream.testing import Turn

from .rig import problem, question, texts, turn


def png(width: int = 2, height: int = 2, more: bytes = b"") -> bytes:
    """Return a grey PNG; `more` stands behind its end."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(min(height, 2))))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"") + more


def jpeg(width: int = 3, height: int = 2) -> bytes:
    """Return the beginning of a JPEG: segments that are skipped, a fill byte, and the frame that says its size."""
    exif = b"\xff\xe1" + struct.pack(">H", 10) + b"Exif\0\0MM"
    table = b"\xff\xc4" + struct.pack(">H", 4) + b"\0\0"
    return (
        b"\xff\xd8"
        + exif
        + table
        + b"\xff\xff\xc2"
        + struct.pack(">HBHHB", 11, 8, height, width, 1)
        + b"\0\0\0\xff\xda"
    )


def webp(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


GIF = b"GIF89a" + struct.pack("<HH", 4, 5) + b"\0\0\0;"
LOSSY = webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 6, 7))
GOOD: dict[str, tuple[str, bytes]] = {
    "PNG": ("image/png", png()),
    "JPEG": ("image/jpeg", jpeg()),
    "GIF": ("image/gif", GIF),
    "the older GIF": ("image/gif", GIF.replace(b"89a", b"87a")),
    "WebP with loss": ("image/webp", LOSSY),
    "WebP without": ("image/webp", webp(b"VP8L", b"\x2f" + struct.pack("<I", 5 | 6 << 14))),
    "WebP with more": ("image/webp", webp(b"VP8X", b"\0\0\0\0" + b"\7\0\0\x08\0\0")),
    "as large as can be": ("image/png", png(8000, 8000)),
}


def part(media_type: str = "image/png", data: bytes | str = png()) -> dict[str, Any]:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return {"type": "image", "mediaType": media_type, "data": text}


TEXT = {"type": "text", "text": "What is this?"}
URL = "https://example.org/cat.png"
BAD: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "no base64": (part(data="%%%%"), 400, [".data", "base64"]),
    "base64 in lines": (part(data=base64.encodebytes(png(9, 9)).decode()), 400, [".data", "base64"]),
    "base64 that is cut": (part(data="iVBORw0"), 400, [".data", "base64"]),
    "no ASCII": (part(data="é"), 400, [".data", "base64"]),
    "a data URL": (part(data="data:image/png;base64,iVBORw0K"), 400, [".data", "without", "data:"]),
    "an address as data": (part(data=URL), 400, [".data", "without an address"]),
    "an address": ({"type": "image", "url": URL}, 400, ["'mediaType'", "required"]),
    "an address beside": (part() | {"url": URL}, 400, ["'url'", "unexpected"]),
    "an address in OpenAI's form": ({"type": "image_url", "image_url": {"url": URL}}, 400, ["'image_url'", "'image'"]),
    "nothing": (part(data=""), 400, ["image/png", "no image"]),
    "another type": (part("image/png", jpeg()), 400, ["says image/png", "begins like JPEG"]),
    "text": (part("image/webp", b"hello"), 400, ["says image/webp", "no image"]),
    "a sound": (part("image/webp", b"RIFF\0\0\0\0WAVEfmt "), 400, ["no image"]),
    "SVG": (part("image/svg+xml", b"<svg/>"), 400, ["mediaType", "'image/svg+xml'", "'image/png'"]),
    "a PNG that is cut": (part(data=png()[:20]), 400, ["PNG is broken", "width"]),
    "a JPEG without a frame": (part("image/jpeg", jpeg()[:20]), 400, ["JPEG is broken"]),
    "a GIF that is cut": (part("image/gif", b"GIF89a\1"), 400, ["GIF is broken"]),
    "a WebP that is cut": (part("image/webp", LOSSY[:26]), 400, ["WEBP is broken"]),
    "no pixels": (part(data=png(0, 2)), 400, ["PNG is broken"]),
    "too wide": (part(data=png(8001, 2)), 413, ["8001 x 2", "8000 x 8000"]),
    "too high": (part("image/jpeg", jpeg(2, 9000)), 413, ["2 x 9000", "8000 x 8000"]),
    "too many bytes": (part(data=png(more=b"\0" * MAX_DATA)), 413, ["bytes", str(MAX_DATA * 3 // 4)]),
}
STATUS = {400: "bad_request", 413: "too_large"}


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture
async def running(start: Any, fake: Any) -> Any:
    await fake(lambda request: Turn(text="A dot."))
    return await start("anthropic:fake")


@pytest.mark.parametrize(("image", "status", "told"), BAD.values(), ids=BAD)
async def test_a_bad_image_is_told_where_and_what_was_met(
    image: Any, status: int, told: list[str], running: Any
) -> None:
    message = problem(await running.post(encoded(question([TEXT, image]))), status, STATUS[status])

    assert message.startswith("messages[0].content[1]")
    assert [words for words in told if words not in message] == [], message
    assert len(message) < 600


async def test_in_a_stored_conversation_a_bad_image_is_refused_and_leaves_nothing(running: Any) -> None:
    conversation = await running.conversation()
    body = turn(conversation, [TEXT, part("image/gif")])

    message = problem(await running.post(encoded(body)), 400, "bad_request")
    assert message == "message[1]: says image/gif and begins like PNG"
    assert (await running.tree(conversation))["messages"] == []


async def test_a_message_takes_so_many_images_and_no_more(running: Any) -> None:
    message = problem(await running.post(encoded(question([part()] * (MAX_IMAGES + 1)))), 413, "too_large")

    assert (str(MAX_IMAGES + 1) in message, str(MAX_IMAGES) in message) == (True, True)
    assert texts(await running.ask(question([part()] * MAX_IMAGES))) == "A dot."


def images_in(body: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return the images that a provider was sent, by any of the three APIs."""
    found = []
    for message in body.get("messages") or body["input"]:
        for each in message["content"] if isinstance(message.get("content"), list) else ():
            if each["type"] == "image":
                found.append((each["source"]["media_type"], each["source"]["data"]))
            elif each["type"] in ("image_url", "input_image"):
                url = each["image_url"]
                head, _, data = (url if isinstance(url, str) else url["url"]).partition(";base64,")
                found.append((head.removeprefix("data:"), data))
    return [(media_type, base64.b64decode(data)) for media_type, data in found]


@pytest.mark.parametrize("provider", ["anthropic", "openai", "openai-chat"])
async def test_each_api_is_sent_the_bytes_that_were_asked_about(provider: str, start: Any, fake: Any) -> None:
    provided = await fake(Turn(text="Six."), Turn(text="Still six."))
    running = await start(f"{provider}:gpt-5")
    conversation = await running.conversation()
    images = [part(*image) for image in GOOD.values()]

    assert texts(await running.ask(turn(conversation, [*images, TEXT]))) == "Six."
    assert images_in(provided.requests[0].body) == list(GOOD.values())
    # An image is part of the history from then on, and needs no words.
    await running.ask(turn(conversation, [part()]))
    assert images_in(provided.requests[1].body) == [*GOOD.values(), GOOD["PNG"]]


async def test_a_model_that_cannot_see_says_which_can(start: Any, fake: Any) -> None:
    await fake(Turn(text="A dot."))
    running = await start("scripted:demo")
    models = {model["id"]: model["images"] for model in (await running.get("/api/models"))["models"]}
    conversation = await running.conversation()

    assert (models["scripted:demo"], models["anthropic:claude-sonnet-5-5"]) == (False, True)
    for body in (question([TEXT, part()]), turn(conversation, [part()])):
        message = problem(await running.post(encoded(body)), 400, "bad_request")
        assert [words for words in ("scripted:demo", "images", "anthropic:") if words not in message] == [], message
    assert (await running.tree(conversation))["messages"] == []


async def test_without_any_model_that_can_see_that_is_what_is_said(
    start: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    running = await start(write_script({"text": "Hello"}))

    assert "no model" in problem(await running.post(encoded(question([part()]))), 400, "bad_request")


async def test_images_of_the_history_keep_nobody_from_asking_a_model_that_cannot_see(
    start: Any, fake: Any, write_script: Any
) -> None:
    provided = await fake(Turn(text="A dot."), Turn(text="It was a dot."))
    running = await start(write_script({"text": "Hello"}))
    conversation = await running.conversation()
    await running.ask(turn(conversation, [part(), TEXT], model="anthropic:fake"))

    assert texts(await running.ask(turn(conversation, "And now?"))) == "Hello"
    # Another answer to the image itself is no new image either.
    asked = (await running.tree(conversation))["messages"][0]["id"]
    assert texts(await running.ask(turn(conversation, None, parentId=asked))) == "Hello"
    history = [{"role": "user", "content": [part()]}, {"role": "assistant", "content": "A dot."}]
    after = {"role": "user", "content": "And now?"}
    assert texts(await running.ask({"messages": [*history, after]})) == "Hello"
    # And whoever can see sees it again.
    leaf = (await running.tree(conversation))["leafId"]
    await running.ask(turn(conversation, "Look again.", parentId=leaf, model="anthropic:fake"))
    assert images_in(provided.requests[1].body) == [GOOD["PNG"]]


async def test_a_stored_image_is_loaded_and_exported_and_no_search_finds_its_bytes(running: Any) -> None:
    conversation = await running.conversation()
    image = part()
    await running.ask(turn(conversation, [image, TEXT]))

    assert (await running.tree(conversation))["messages"][0]["content"] == [image, TEXT]
    exported = await running.send("GET", f"/api/conversations/{conversation}?format=json")
    assert exported.json["messages"][0]["content"] == [image, TEXT]
    markdown = await running.send("GET", f"/api/conversations/{conversation}?format=md")
    assert b"*(an image)*\n\nWhat is this?" in markdown.body
    assert (await running.get(f"/api/conversations?q={image['data'][:12]}"))["conversations"] == []
    assert len((await running.get("/api/conversations?q=What"))["conversations"]) == 1


# The SDK hands its transport the body as one piece, and aiohttp would have it otherwise.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_six_of_the_largest_images_fit_into_one_request(running: Any) -> None:
    image = part(data=png(more=b"\0" * (MAX_DATA * 3 // 4 - 200)))

    answer = await running.post(encoded(question([image] * 6)))
    assert (answer.status, b"A dot." in answer.body) == (200, True), answer.body[:500]


def test_an_image_is_as_long_to_a_model_as_what_it_shows_and_not_as_its_bytes() -> None:
    small, large = (messages_from_json(question([part(data="A" * size)])["messages"]) for size in (4, 4_000_000))

    assert length(small) == length(large)
    assert 5000 < length(small) < 10_000
