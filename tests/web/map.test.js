/** The README's map of the page: every module is on it once, and imports only from those before it. */

import assert from "node:assert/strict"
import { readFileSync, readdirSync } from "node:fs"
import { test } from "node:test"

const ROOT = new URL("../../", import.meta.url)
const read = (name) => readFileSync(new URL(name, ROOT), "utf8")

const [map] = read("README.md").split("The page is `web/`")[1].split("\n## ")
const ORDER = [...map.matchAll(/^\| ((?:`[\w-]+` )+)\|/gm)].flatMap(([, row]) => row.match(/[\w-]+/g))

test("the map names every module once", () => {
  const modules = readdirSync(new URL("web/", ROOT)).filter((name) => name.endsWith(".js"))
  assert.deepEqual([...ORDER].sort(), modules.map((name) => name.slice(0, -3)).sort())
})

for (const [place, name] of ORDER.entries()) {
  test(`${name}.js imports only from those before it`, () => {
    const code = read(`web/${name}.js`).replace(/\/\*\*[^]*?\*\//g, "")
    for (const [, other] of code.matchAll(/(?:from |import\()"\.\/([\w-]+)\.js"/g)) {
      assert.ok(ORDER.indexOf(other) < place, `${name} imports ${other}`)
    }
  })
}
