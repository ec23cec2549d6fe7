/** Every word of the page's own, in one table, so that it can be read and translated as a whole. */

export const texts = {
  title: "chatstream",
  greeting: "How can I help you today?",
  /** By what they ask of the model: those that need tools are shown instead of the plain ones where it has them. */
  examples: {
    "needs-tools": ["What is the weather in Oslo?", "What is 17.5 % of 2,340?"],
    plain: ["Write a haiku about the sea", "Name three colours and what they stand for"],
    any: ["Explain server-sent events with an example", "Show me a table and some code"],
  },
  placeholder: "Message",
  placeholderLoading: "Waiting for the answer",
  modelUnavailable: /** @param {string} label @param {string} reason */ (label, reason) => `${label} (${reason})`,
  unavailable: "not available",
  demo: "Demo: these answers are a script, not a model.",
  noModels: "The list of models could not be loaded.",
  markdownOff: "Markdown is off: the page's libraries are not installed. Run: npm ci --prefix web",
  auth: "This server wants a token: open the address it printed at its start (\u2026/#token=...)",
  tokenRefused: "The server did not accept the token of this address.",

  you: "You said",
  assistant: "The assistant said",
  thinking: "Thinking\u2026",
  thought: /** @param {number} seconds */ (seconds) => `Thought for ${seconds} s`,
  thoughtBriefly: "Thought for a moment",
  typing: "The assistant is answering",
  copy: "Copy",
  copied: "Copied",
  copyCode: "Copy code",
  retry: "Retry",
  requestId: /** @param {string} id */ (id) => `Request ${id}`,
  tryingAgain: /** @param {string} what @param {number} seconds */ (what, seconds) => `${what}, trying again in ${seconds} s`,

  toolArguments: "Arguments",
  toolProgress: "Progress",
  toolResult: "Result",
  toolState: { running: "Running", done: "Done", failed: "Failed", stopped: "Stopped" },
  duration: /** @param {number} ms */ (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`),

  image: /** @param {string} host @param {string} alt */ (host, alt) => `Image from ${host}${alt && ": "}${alt}`,
  table: "Table",
  taskDone: "done",
  taskOpen: "to do",

  /** Endings that are worth a word; `completed` and `stop` are not. */
  /** @type {Record<string, string>} */
  endings: {
    stopped: "Stopped.",
    limit: "Stopped: the limit of turns was reached.",
    paused: "Paused: a tool waits for an approval.",
    interrupted: "Interrupted: the server stopped before the answer was complete.",
    length: "Cut off: the model reached its limit of output tokens.",
    refusal: "The model declined to answer.",
    content_filter: "Cut off by the provider's content filter.",
    context_overflow: "Cut off: the conversation is too long for this model.",
  },

  /** What went wrong, where the server sent no words of its own, and before "trying again in 2 s". */
  /** @type {Record<string, string>} */
  errors: {
    network: "The connection was lost",
    overloaded: "Overloaded",
    rate_limit: "Too many requests",
    timeout: "No answer in time",
    internal: "Something went wrong",
  },
}
