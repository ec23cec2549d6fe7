/**
 * Finds the tokens of a piece of code, with @speed-highlight/core's tokenizer. The tokenizer and each language are
 * loaded when the first code of that language is seen; until then, and where they are not installed, code is plain.
 */

/** @typedef {[text: string, type: string]} CodeToken */
/** @typedef {import("@speed-highlight/core/tokenize").ShjLanguageData} Language */
/** @typedef {(text: string, info: string, whenLoaded: () => void) => CodeToken[] | null} Highlight */

// The grammars are regular expressions that look ahead: a hostile text could keep them busy.
export const LARGEST = 20_000

const LOCATION = "./node_modules/@speed-highlight/core/dist"

// A file is asked for by a name from this list, never by a word of the answer.
const LANGUAGES = new Set([
  ..."asm bash bf c css csv diff docker git go html http ini java js jsdoc json log lua make md pl py regex".split(" "),
  ..."rs sql todo toml ts uri xml yaml".split(" "),
])

/** @type {Record<string, string>} */
const ALIASES = {
  python: "py", python3: "py", javascript: "js", jsx: "js", mjs: "js", node: "js", typescript: "ts", tsx: "ts",
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", yml: "yaml", rust: "rs", golang: "go", cpp: "c", "c++": "c",
  h: "c", cs: "java", csharp: "java", kotlin: "java", htm: "html", vue: "html", svelte: "html", svg: "xml",
  dockerfile: "docker", makefile: "make", perl: "pl", markdown: "md", patch: "diff", jsonc: "json", json5: "json",
  sqlite: "sql", postgresql: "sql", mysql: "sql", scss: "css", less: "css",
}

/**
 * Return the language that an info string names, "" where it is none of ours.
 *
 * @param {string} info
 */
export function languageOf(info) {
  const word = info.trim().split(/[\s{,:]/, 1)[0].toLowerCase()
  const name = Object.hasOwn(ALIASES, word) ? ALIASES[word] : word
  return LANGUAGES.has(name) ? name : ""
}

/** Return true where an info string names a language that has lines of other languages in it. */
/** @param {string} info */
export function isMixed(info) {
  return ["html", "md"].includes(languageOf(info))
}

/**
 * Create a function that returns the tokens of `text`, or null where it stays plain. If a language is still on its
 * way, `whenLoaded` is called once it is here, to ask again.
 *
 * @param {(path: string) => Promise<any>} [load]
 * @returns {Highlight}
 */
export function createHighlight(load = (path) => import(path)) {
  /** @type {typeof import("@speed-highlight/core/tokenize").tokenizer | null} */
  let tokenizer = null
  /** @type {Map<string, Language | undefined>} */
  const languages = new Map()
  /** @type {Map<string, Promise<void>>} */
  const loading = new Map()

  /** @param {string} name */
  function bring(name) {
    const known = loading.get(name)
    if (known) return known
    const files = [load(`${LOCATION}/tokenize.js`), load(`${LOCATION}/languages/${name}.js`)]
    const arrival = Promise.all(files).then(
      ([library, language]) => {
        tokenizer = library.tokenizer
        languages.set(name, language.default)
      },
      () => void languages.set(name, undefined),
    )
    loading.set(name, arrival)
    return arrival
  }

  return (text, info, whenLoaded) => {
    const name = languageOf(info)
    if (!name || text.length > LARGEST) return null
    if (!languages.has(name)) {
      void bring(name).then(whenLoaded)
      return null
    }
    const language = languages.get(name)
    if (!tokenizer || !language) return null
    const { tokens, missing } = tokenize(tokenizer, text, language, languages)
    if (missing.length > 0) void Promise.all(missing.map(bring)).then(whenLoaded)
    return tokens
  }
}

/**
 * @param {typeof import("@speed-highlight/core/tokenize").tokenizer} tokenizer
 * @param {string} text
 * @param {Language} language
 * @param {Map<string, Language | undefined>} languages those that another one may embed
 */
function tokenize(tokenizer, text, language, languages) {
  /** @type {CodeToken[]} */
  const tokens = []
  /** @type {string[]} */
  const missing = []
  const run = tokenizer(text, language, (piece, type = undefined) => piece && tokens.push([piece, type ?? ""]))
  for (let step = run.next(); !step.done; step = run.next(languages.get(step.value))) {
    if (LANGUAGES.has(step.value) && !languages.has(step.value)) missing.push(step.value)
  }
  // Colours may be wrong, the text may not.
  return { tokens: tokens.map(([piece]) => piece).join("") === text ? tokens : null, missing }
}
