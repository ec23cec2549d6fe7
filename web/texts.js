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
  thoughts: "Thoughts",
  offline: "You are offline. What is missing comes by itself when you are back.",
  reconnecting: "The server cannot be reached, trying again\u2026",

  conversations: "Conversations",
  untitled: "New chat",
  today: "Today",
  yesterday: "Yesterday",
  lastWeek: "Last 7 days",
  found: "Found",
  more: "Show more",
  noList: "The server could not be reached.",
  noConversations: "Nothing here yet.",
  notFound: "Nothing was found.",
  running: "Being answered",
  menuOf: /** @param {string} title */ (title) => `What to do with ${title}`,
  renameLabel: "Title",
  deleteQuestion: /** @param {string} title */ (title) => `Delete \u201c${title}\u201d? This cannot be undone.`,

  attach: "Attach images: PNG, JPEG, WebP or GIF, up to 20. Large ones are made smaller.",
  drop: "Drop images here",
  images: "Images",
  imageNumber: /** @param {number} number @param {number} count */ (number, count) => `Image ${number} of ${count}`,
  enlarge: /** @param {string} label */ (label) => `Show ${label} large`,
  remove: /** @param {string} label */ (label) => `Remove ${label}`,
  removeTitle: "Remove",
  close: "Close",
  noSight: /** @param {string} model */ (model) => `${model} cannot take images. Choose another model.`,
  noImage: /** @param {string} name */ (name) => `${name || "This"} is not a PNG, JPEG, WebP or GIF image.`,
  brokenImage: /** @param {string} name */ (name) => `${name || "This image"} cannot be read.`,
  largeImage: /** @param {string} name */ (name) => `${name || "This image"} is too large, and could not be made smaller.`,
  tooManyImages: /** @param {number} most */ (most) => `A message takes ${most} images at most.`,
  tooMuch: "These images are too large together: send some of them with the next message.",

  typing: "The assistant is answering",
  copy: "Copy",
  copied: "Copied",
  copyCode: "Copy code",
  retry: "Retry",
  edit: "Edit",
  editLabel: "Edit your message",
  save: "Send",
  cancel: "Cancel",
  regenerate: "Regenerate",
  continue: "Continue",
  previous: "Previous branch",
  next: "Next branch",
  branch: /** @param {number} number @param {number} count */ (number, count) => `${number} / ${count}`,
  branchLabel: /** @param {number} number @param {number} count */ (number, count) => `Branch ${number} of ${count}`,
  stopping: "Stopping\u2026",
  stop: "Stop",
  requestId: /** @param {string} id */ (id) => `Request ${id}`,
  tryingAgain: /** @param {string} what @param {number} seconds */ (what, seconds) => `${what}, trying again in ${seconds} s`,

  sources: "Sources",
  document: "A document",
  cited: "What it says",
  /** @param {string} name such as web_search, or web_search_call */
  providerTool: (name) => `${name.charAt(0).toUpperCase()}${name.slice(1).replace(/_call$/, "").replaceAll("_", " ")} (by the provider)`,
  toolArguments: "Arguments",
  toolProgress: "Progress",
  toolResult: "Result",
  toolState: {
    running: "Running",
    waiting: "Waits for your approval",
    approved: "Approved",
    done: "Done",
    failed: "Failed",
    denied: "Denied",
    stopped: "Stopped",
  },
  toolElsewhere: "Waits for its result",
  approve: "Approve",
  deny: "Deny",
  approveLabel: /** @param {string} name */ (name) => `Approve ${name}`,
  denyLabel: /** @param {string} name */ (name) => `Deny ${name}`,
  approvalQuestion: "May this run with the arguments above?",
  duration: /** @param {number} ms */ (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`),

  image: /** @param {string} host @param {string} alt */ (host, alt) => `Image from ${host}${alt && ": "}${alt}`,
  table: "Table",
  taskDone: "done",
  taskOpen: "to do",

  /** Endings that are worth a word; `completed` and `stop` are not. */
  /** @type {Record<string, string>} */
  endings: {
    limit: "Stopped: the limit of turns was reached.",
    paused: "Paused: a tool waits for a decision.",
    interrupted: "Interrupted: the server stopped before the answer was complete.",
    length: "Cut off: the model reached its limit of output tokens.",
    refusal: "The model declined to answer.",
    content_filter: "Cut off by the provider's content filter.",
    context_overflow: "Cut off: the conversation is too long for this model.",
  },

  /** What a stop came to: in how many ms the provider's connection was closed, and what had been written and done by then. */
  /** @param {number | null | undefined} closedMs @param {number | null} tokens @param {boolean} isEstimated @param {number} calls */
  stopped: (closedMs, tokens, isEstimated, calls) => {
    const closed = closedMs === undefined ? "" : closedMs === null ? "no request to the model was open" : `the model's connection was closed in ${Math.round(closedMs)} ms`
    const written = tokens === null ? "" : `${isEstimated ? "about " : ""}${tokens} token${tokens === 1 ? "" : "s"} written`
    const used = calls ? `${calls} tool call${calls === 1 ? "" : "s"} by the provider` : ""
    const facts = [closed, written, used].filter(Boolean).join(", ")
    return facts ? `Stopped: ${facts}.` : "Stopped."
  },

  /** What went wrong, where the server sent no words of its own, and before "trying again in 2 s". */
  /** @type {Record<string, string>} */
  errors: {
    network: "The connection was lost",
    unreachable: "The server could not be reached, so it may not have stopped",
    stop: "Stop did not reach the server",
    decision: "The decision did not reach the server",
    not_found: "This conversation is not on the server, or no longer",
    conflict: "It was changed elsewhere meanwhile",
    overloaded: "Overloaded",
    rate_limit: "Too many requests",
    timeout: "No answer in time",
    internal: "Something went wrong",
  },
}
