/**
 * Character references in an answer's text (`&amp;`, `&#233;`) become the characters they name. The browser's own
 * decoder is out of reach: it is an HTML parser, and the page's Trusted Types policy forbids those. The table has the
 * names that occur in prose; any other is shown as it was written.
 */

// From U+00A0 to U+00FF, in their order.
const LATIN =
  "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para" +
  " middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave" +
  " Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc" +
  " Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave iacute icirc" +
  " iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml"

const NAMES = new Map([
  ...LATIN.split(" ").map((name, index) => /** @type {[string, string]} */ ([name, String.fromCharCode(160 + index)])),
  ...Object.entries({
    amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", trade: "™", hellip: "…", mdash: "—", ndash: "–", lsquo: "‘",
    rsquo: "’", ldquo: "“", rdquo: "”", bull: "•", minus: "−", infin: "∞", ne: "≠",
    le: "≤", ge: "≥", asymp: "≈", equiv: "≡", sum: "∑", prod: "∏", radic: "√", int: "∫", part: "∂", nabla: "∇",
    forall: "∀", exist: "∃", isin: "∈", notin: "∉", cap: "∩", cup: "∪", sub: "⊂", sup: "⊃", larr: "←", uarr: "↑",
    rarr: "→", darr: "↓", harr: "↔", rArr: "⇒", hArr: "⇔", euro: "€",
    alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", theta: "θ", lambda: "λ", mu: "μ", pi: "π",
    rho: "ρ", sigma: "σ", tau: "τ", phi: "φ", omega: "ω", Delta: "Δ", Sigma: "Σ", Omega: "Ω",
    colon: ":", sol: "/", bsol: "\\", lpar: "(", rpar: ")", lsqb: "[", rsqb: "]", lbrack: "[", rbrack: "]",
    lcub: "{", rcub: "}", lbrace: "{", rbrace: "}", ast: "*", num: "#", vert: "|", grave: "`", lowbar: "_",
    excl: "!", quest: "?", commat: "@", equals: "=", plus: "+", comma: ",", period: ".", semi: ";", dollar: "$",
    percnt: "%", Tab: "\t", NewLine: "\n",
  }),
])

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
