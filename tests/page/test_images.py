"""Images in questions, and what a provider's own tools bring: the page before a real server before a fake provider."""

from __future__ import annotations

import base64
import re
import struct

from playwright.sync_api import expect

from chatstream.testing import FakeProvider, Turn
from tests.situations import OF_ONE_API, cited, messages_api

from .rig import needs_libraries, turns

pytestmark = needs_libraries

GIF = base64.b64decode("R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs=")
# Makes a file by drawing it, puts an Exif segment into it where `turned`, and hands it over as `kind` of event.
HAND = """
async ([kind, type, width, height, turned]) => {
    const canvas = document.createElement("canvas")
    Object.assign(canvas, { width, height }).getContext("2d").fillRect(0, 0, width / 2, height / 2)
    let file = await new Promise((resolve) => canvas.toBlob(resolve, type))
    // One entry of big-endian TIFF: Orientation (0x0112) is 6, a quarter turn.
    const exif =
      "\\xff\\xe1\\0\\x22Exif\\0\\0MM\\0*\\0\\0\\0\\x08\\0\\1\\1\\x12\\0\\3\\0\\0\\0\\1\\0\\6\\0\\0\\0\\0\\0\\0"
    const bytes = Uint8Array.from(exif, (character) => character.charCodeAt(0))
    if (turned) file = new Blob([file.slice(0, 2), bytes, file.slice(2)])
    const data = new DataTransfer()
    data.items.add(new File([file], "drawn", { type }))
    const init = { bubbles: true, cancelable: true }
    const isPaste = kind === "paste"
    const event = isPaste ? new ClipboardEvent(kind, { ...init, clipboardData: data })
        : new DragEvent(kind, { ...init, dataTransfer: data })
    document.querySelector(isPaste ? "#input" : "#messages").dispatchEvent(event)
}
"""


def images_of(fake: FakeProvider, number: int) -> list[tuple[str, bytes]]:
    sources = [part["source"] for part in fake.requests[number].body["messages"][0]["content"] if "source" in part]
    return [(source["media_type"], base64.b64decode(source["data"])) for source in sources]


def test_images_are_attached_pasted_and_dropped_and_the_model_is_sent_them(provide, open_page):
    fake = provide(Turn(text="Four."), Turn(text="Three."))
    watched = open_page(None, "--model", "anthropic:fake")
    page = watched.page
    thumbs, note = page.locator("#thumbs li"), page.locator("#note")

    page.set_input_files("#files", [{"name": "a.pdf", "mimeType": "image/png", "buffer": b"%PDF-1.7"}])
    expect(note).to_contain_text(
        "a.pdf is of type PDF, which cannot be sent. Images (PNG, JPEG, WebP, GIF) and text files"
    )
    # As the file's bytes begin, and not as it is called.
    page.set_input_files("#files", [{"name": "a.png", "mimeType": "image/png", "buffer": GIF}])
    expect(thumbs).to_have_count(1)
    expect(note).to_be_hidden()
    page.evaluate(HAND, ["paste", "image/png", 2600, 1300, False])
    expect(thumbs).to_have_count(2)
    page.evaluate(HAND, ["dragover", "image/png", 1, 1, False])
    expect(page.locator("#composer.dropping")).to_be_visible()
    page.evaluate(HAND, ["drop", "image/jpeg", 60, 40, True])
    expect(thumbs).to_have_count(3)
    page.evaluate(HAND, ["drop", "image/png", 8, 8, False])
    expect(thumbs).to_have_count(4)
    page.click("#thumbs li:last-child .remove")
    expect(page.locator("#composer.dropping")).to_have_count(0)
    page.keyboard.press("Enter")
    watched.wait_until_answered()

    expect(page.locator("#title")).to_have_text("New chat")

    gif, png, jpeg = images_of(fake, 0)
    assert gif == ("image/gif", GIF)
    assert (png[0], struct.unpack(">II", png[1][16:24])) == ("image/png", (2000, 1000))
    # It is upright, and says no more than it shows.
    assert (jpeg[0], b"Exif" in jpeg[1]) == ("image/jpeg", False)
    frame = jpeg[1].index(b"\xff\xc0")
    assert struct.unpack(">HH", jpeg[1][frame + 5 : frame + 9]) == (60, 40)

    expect(thumbs).to_have_count(0)
    watched.reload()
    shown = page.locator(".said .thumb img")
    expect(shown).to_have_count(3)
    page.wait_for_function("() => [...document.images].every((image) => image.naturalWidth > 0)")
    page.locator(".said .thumb").nth(1).press("Enter")
    assert page.locator(".large img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [2000, 1000]
    page.keyboard.press("Escape")
    expect(page.locator(".large")).to_have_count(0)
    expect(page.locator(".said .thumb").nth(1)).to_be_focused()
    page.locator(".edit").press("Enter")
    page.click(".editor li:first-child .remove")
    page.keyboard.type("How many?")
    page.keyboard.press("Enter")
    expect(shown).to_have_count(2)  # until then the answer to the older question is the last one
    watched.wait_until_answered()
    assert images_of(fake, 1) == [png, jpeg]
    watched.assert_clean()


def test_what_cannot_be_read_holds_nothing_up_and_what_comes_meanwhile_is_not_lost(provide, open_page):
    fake = provide(Turn(text="Two."))
    watched = open_page(None, "--model", "anthropic:fake")
    page = watched.page
    # A folder that is dropped is a file whose reading fails; the others take until all are dropped.
    page.evaluate(
        """async ([type, width]) => {
        const canvas = Object.assign(document.createElement("canvas"), { width, height: 9 })
        const blob = await new Promise((resolve) => canvas.toBlob(resolve, type))
        const read = Blob.prototype.arrayBuffer
        Blob.prototype.arrayBuffer = async function () {
            if (this.name === "folder") throw new DOMException("a folder", "NotReadableError")
            return read.call(this)
        }
        for (const name of ["one", "folder", "two"]) {
            const dataTransfer = new DataTransfer()
            dataTransfer.items.add(new File([blob], name, { type }))
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }))
        }
    }""",
        ["image/png", 9],
    )
    expect(page.locator("#thumbs li")).to_have_count(2)
    expect(page.locator("#note")).to_have_text("folder cannot be read.")
    page.press("#input", "Enter")
    watched.wait_until_answered()
    assert len(images_of(fake, 0)) == 2
    watched.assert_clean()


def test_many_images_leave_the_field_in_view_over_a_phones_keyboard(provide, open_page):
    provide()
    page = open_page(None, "--model", "anthropic:fake").page
    page.set_viewport_size({"width": 390, "height": 380})
    page.set_input_files("#files", [{"name": "a.gif", "mimeType": "image/gif", "buffer": GIF}] * 20)
    expect(page.locator("#thumbs li")).to_have_count(20)
    expect(page.locator("#input")).to_be_in_viewport(ratio=1)
    expect(page.locator("#send")).to_be_in_viewport(ratio=1)


def test_a_model_that_cannot_see_says_so_before_anything_is_sent(open_page):
    watched = open_page(turns("Hello."))
    page, note = watched.page, watched.page.locator("#note")
    expect(page.locator("#attach")).to_have_attribute("title", re.compile("takes no images"))

    for act in ("attach", "paste", "drop"):
        if act == "attach":
            page.set_input_files("#files", [{"name": "a.gif", "mimeType": "image/gif", "buffer": GIF}])
        else:
            page.evaluate(HAND, [act, "image/png", 9, 9, False])
        expect(note).to_contain_text("cannot take images")
        watched.answer("Hi")
        expect(note).to_be_hidden()
    expect(page.locator("#thumbs li, .thumb")).to_have_count(0)


def test_a_providers_own_tool_is_a_card_and_the_sources_of_a_text_are_safe_links(provide, open_page):
    pages = ("https://a.example/1", "https://b.example/2", "javascript:alert(3)", "https://a.example/1")
    searches = OF_ONE_API["anthropic"]["provider_tool"]
    provide(*searches, messages_api("end_turn", cited("They **stream**", *pages), {"type": "text", "text": "."}))
    watched = open_page(None, "--model", "anthropic:fake")
    page = watched.page
    watched.answer("Search")
    card = page.locator(".tool")

    expect(card).to_have_count(1)
    expect(card.locator("summary")).to_have_text(re.compile(r"^Web search \(by the provider\).*Done$"))
    expect(card.locator("pre").last).to_be_hidden()
    card.locator("summary").click()
    expect(card.locator("pre").last).to_have_text("One\nhttps://a.example/1")

    watched.answer("And say where from")
    sources = page.locator(".sources li")
    expect(page.locator(".prose").last).to_have_text("They stream.")
    expect(sources).to_have_count(3)
    links = [(link.get_attribute("href"), link.get_attribute("rel")) for link in sources.locator("a").all()]
    assert links == [(address, "noopener noreferrer") for address in pages[:2]]
    expect(sources.nth(0)).to_contain_text("a.example")
    expect(sources.nth(0).locator("blockquote")).to_be_hidden()
    sources.nth(0).locator("summary").click()
    expect(sources.nth(0).locator("blockquote")).to_have_text(f"All of {pages[0]}.")
    expect(sources.nth(2)).to_contain_text("3")
    live = page.locator(".parts").all_inner_texts()
    watched.reload()
    expect(page.locator(".parts")).to_have_count(2)
    card.locator("summary").click()
    sources.nth(0).locator("summary").click()
    assert page.locator(".parts").all_inner_texts() == live
    watched.assert_clean()
