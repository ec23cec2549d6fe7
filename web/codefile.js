/** Gives the reader a block of code as a file, named by its language. Loaded when one is asked for. */

import { languageOf } from "./highlight.js"
import { saveFile } from "./save.js"

// Languages whose name is no ending of files.
/** @type {Record<string, string>} */
const NAMES = {
  "": "code.txt", bash: "code.sh", docker: "Dockerfile", git: "code.txt", jsdoc: "code.js",
  make: "Makefile", regex: "code.txt", todo: "code.txt", uri: "code.txt",
}
// Endings that readers know better than the language that colours them.
const ENDINGS = new Set(["cpp", "cs", "h", "htm", "jsonc", "jsx", "kt", "less", "mjs", "php", "rb", "scss", "svg", "swift", "tsx", "vue", "yml"])

/**
 * Return a file's name for code with the info string `info`: its own where it tells one (`title="app.py"`).
 *
 * @param {string} info
 */
export function codeFileName(info) {
  const told = /(?:^|[\s:="'])([\w-]+\.\w{1,8})(?=$|[\s"'}])/.exec(info)?.[1]
  const word = info.trim().split(/[\s{,:]/, 1)[0].toLowerCase()
  const language = languageOf(info)
  return told ?? (ENDINGS.has(word) ? `code.${word}` : (NAMES[language] ?? `code.${language}`))
}

/** @param {string} info @param {string} text */
export function saveCode(info, text) {
  saveFile(codeFileName(info), new Blob([text, "\n"], { type: "text/plain" }))
}
