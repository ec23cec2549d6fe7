/**
 * Character references in an answer's text (`&amp;`, `&#233;`) become the characters they name. The browser's own
 * decoder is out of reach: it is an HTML parser, and the page's Trusted Types policy forbids those. The table has the
 * names that occur in prose; any other is shown as it was written.
 */

const NAMES = new Map(
  Object.entries({
    amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", trade: "™",
    hellip: "…", mdash: "—", ndash: "–", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", laquo: "«", raquo: "»",
    bull: "•", middot: "·", sect: "§", para: "¶", deg: "°", plusmn: "±", times: "×", divide: "÷", minus: "−",
    frac12: "½", frac14: "¼", frac34: "¾", sup1: "¹", sup2: "²", sup3: "³", micro: "µ", infin: "∞", ne: "≠",
    le: "≤", ge: "≥", asymp: "≈", equiv: "≡", sum: "∑", prod: "∏", radic: "√", int: "∫", part: "∂", nabla: "∇",
    forall: "∀", exist: "∃", isin: "∈", notin: "∉", cap: "∩", cup: "∪", sub: "⊂", sup: "⊃", larr: "←", uarr: "↑",
    rarr: "→", darr: "↓", harr: "↔", rArr: "⇒", hArr: "⇔", euro: "€", pound: "£", yen: "¥", cent: "¢",
    alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", theta: "θ", lambda: "λ", mu: "μ", pi: "π",
    rho: "ρ", sigma: "σ", tau: "τ", phi: "φ", omega: "ω", Delta: "Δ", Sigma: "Σ", Omega: "Ω",
    colon: ":", sol: "/", bsol: "\\", lpar: "(", rpar: ")", lsqb: "[", rsqb: "]", lbrack: "[", rbrack: "]",
    lcub: "{", rcub: "}", lbrace: "{", rbrace: "}", ast: "*", num: "#", vert: "|", grave: "`", lowbar: "_",
    excl: "!", quest: "?", commat: "@", equals: "=", plus: "+", comma: ",", period: ".", semi: ";", dollar: "$",
    percnt: "%", Tab: "\t", NewLine: "\n",
  }),
)

/**
 * Return `text` with its character references replaced.
 *
 * @param {string} text
 */
export function decodeEntities(text) {
  if (!text.includes("&")) return text
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z][a-zA-Z\d]{1,31}));/g, (whole, decimal, hex, name) => {
    if (name) return NAMES.get(name) ?? whole
    return character(decimal ? Number.parseInt(decimal, 10) : Number.parseInt(hex, 16))
  })
}

/** @param {number} code */
function character(code) {
  // https://spec.commonmark.org/0.31.2/#decimal-numeric-character-references
  const isCharacter = code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff)
  return isCharacter ? String.fromCodePoint(code) : "\ufffd"
}
