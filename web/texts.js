/**
 * Every word of the page's own, to be read and translated as a whole: here and in `texts-first.js`, which has those that
 * the first look needs. What is loaded later takes its words from here, and finds all of them.
 */

import { texts as first } from "./texts-first.js"

const NUMBER = new Intl.NumberFormat()
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "short" })
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" })
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" })

export const texts = {
  ...first,

  you: "You said",
  assistant: "The assistant said",
  thinking: "Thinking\u2026",
  thought: /** @param {number} seconds */ (seconds) => `Thought for ${seconds} s`,
  thoughtBriefly: "Thought for a moment",
  thoughts: "Thoughts",
  rename: "Rename",
  exportMarkdown: "Export as Markdown",
  exportJson: "Export as JSON",
  delete: "Delete",
  renameLabel: "Title",
  pin: "Pin",
  unpin: "Unpin",
  toasts: "What was just done",
  deleted: /** @param {string} title */ (title) => `Deleted \u201c${title}\u201d.`,
  restored: /** @param {string} title */ (title) => `\u201c${title}\u201d is back.`,
  notRestored: "It is too late: it is gone for good.",
  undo: "Undo",
  undoHint: "Undo with Ctrl+Z.",
  dismiss: "Dismiss",
  import: "Import\u2026",
  importing: "Import",
  importHint: "Files that were exported here, ChatGPT\u2019s conversations.json, or Open WebUI\u2019s export can be imported.",
  exportAll: "Export all",
  exported: "All conversations are in one file now.",
  imported: /** @param {number} count */ (count) => `${count} conversation${count === 1 ? "" : "s"} imported.`,
  importCut: "The rest was not.",
  progress: /** @param {number} number @param {number} count */ (number, count) => `${number} of ${count}`,
  refusedCount: /** @param {number} count */ (count) => `${count} could not be:`,
  refused: /** @param {string} file @param {string} title @param {string} reason */ (file, title, reason) => `${file}${title && ", "}${title}: ${reason}`,
  /** @type {Record<string, string>} */
  refusals: {
    unreadable: "It is no JSON.",
    unknown: "It is no conversation that is known here.",
    empty: "It has no messages.",
  },
  settingsHere: "This conversation",
  settingsPage: "This page",
  settingsData: "All conversations",
  systemPrompt: "System prompt",
  systemNote: "The model is told this before each answer. What the operator of the server says comes first, and stays in force.",
  theme: "Theme",
  themes: { system: "System", light: "Light", dark: "Dark" },
  about: "About",
  apiLink: "Its API, described by OpenAPI",
  attachShort: "Attach",
  imageNumber: /** @param {number} number @param {number} count */ (number, count) => `Image ${number} of ${count}`,
  enlarge: /** @param {string} label */ (label) => `Show ${label} large`,
  remove: /** @param {string} label */ (label) => `Remove ${label}`,
  removeTitle: "Remove",
  close: "Close",
  showFile: /** @param {string} name */ (name) => `Show ${name}`,
  size: /** @param {number} bytes */ (bytes) => (bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0)} kB`),
  /** @param {string} name @param {string} type as far as it is known */
  notTaken: (name, type) => `${name || "This"} ${type ? `is of type ${type}, which` : "is of a type that"} cannot be sent. Images (PNG, JPEG, WebP, GIF) and text files (UTF-8 or UTF-16) can.`,
  /** @param {string} name @param {number} bytes @param {number} most */
  largeFile: (name, bytes, most) => `${name} has ${Math.ceil(bytes / 1024)} kB; a text file may have ${most / 1024} kB.`,
  tooManyFiles: /** @param {number} most */ (most) => `A message takes ${most} text files at most.`,
  tooMuchText: /** @param {number} most */ (most) => `These files are too large together: a message takes ${most / 1024} kB of text files.`,
  queueNext: "Next:",
  queueLabel: /** @param {string} label @param {string} text */ (label, text) => `${label}: ${text.slice(0, 60)}`,
  queueLost: "What was attached was too large to be kept.",
  sendNow: "Send now",
  brokenImage: /** @param {string} name */ (name) => `${name || "This image"} cannot be read.`,
  largeImage: /** @param {string} name */ (name) => `${name || "This image"} is too large, and could not be made smaller.`,
  tooManyImages: /** @param {number} most */ (most) => `A message takes ${most} images at most.`,
  tooMuch: "These images are too large together: send some of them with the next message.",
  jumpToNews: "Jump to the end, there is more to read",
  answered: "The answer is complete.",
  codeSpoken: /** @param {string} language @param {number} lines */ (language, lines) => `Code${language && ` in ${language}`}, ${lines} line${lines === 1 ? "" : "s"}.`,
  copy: "Copy",
  copied: "Copied",
  copyCode: "Copy code",
  saveCode: "Download",
  wrap: "Wrap",
  retry: "Retry",
  edit: "Edit",
  editLabel: "Edit your message",
  cancel: "Cancel",
  regenerate: "Regenerate",
  continue: "Continue",
  previous: "Previous branch",
  next: "Next branch",
  branch: /** @param {number} number @param {number} count */ (number, count) => `${number} / ${count}`,
  branchLabel: /** @param {number} number @param {number} count */ (number, count) => `Branch ${number} of ${count}`,
  time: /** @param {Date} date */ (date) => (date.toDateString() === new Date().toDateString() ? CLOCK : DAY).format(date),
  fullTime: /** @param {Date} date */ (date) => FULL.format(date),
  details: "Details",
  facts: {
    model: "Model",
    read: "Read",
    written: "Written",
    first: "First token after",
    speed: "Speed",
    duration: "Took",
    end: "Ended",
    time: "Time",
    run: "Run",
  },
  tokens: /** @param {number} count @param {string} more @param {boolean} isEstimated */ (count, more, isEstimated) => `${isEstimated ? "about " : ""}${NUMBER.format(count)} token${count === 1 ? "" : "s"}${more && ` (${more})`}`,
  cached: /** @param {number} count */ (count) => `${NUMBER.format(count)} from the cache`,
  reasoned: /** @param {number} count */ (count) => `${NUMBER.format(count)} of reasoning`,
  perSecond: /** @param {number} speed */ (speed) => `${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`,
  copyRunId: "Copy the run's id",
  writingKeys: "While you write, Enter sends and Shift+Enter begins a line; on a phone Enter begins a line and the button sends. The up arrow in an empty field edits your last message.",
  letters: "Keys without Ctrl or Alt, where nobody writes",
  keys: {
    help: "Show this sheet",
    write: "Write a message",
    stop: "Stop the answer",
    create: "New chat",
    search: "Search conversations",
    list: "Show or hide the list",
    settings: "Settings",
    previous: "Message before",
    next: "Message after",
    end: "Jump to the end",
    copy: "Copy the answer",
    edit: "Edit the question",
    regenerate: "Another answer",
    back: "Branch before",
    forth: "Branch after",
    facts: "Details of the answer",
  },
  /** How a key is written, on a Mac as the second. */
  /** @type {Record<string, [string, string]>} */
  keyNames: {
    Mod: ["Ctrl", "\u2318"],
    Alt: ["Alt", "\u2325"],
    Shift: ["Shift", "\u21e7"],
    ArrowUp: ["\u2191", "\u2191"],
    ArrowDown: ["\u2193", "\u2193"],
    Escape: ["Esc", "esc"],
  },
  stopping: "Stopping\u2026",
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
  imageFailed: /** @param {string} host */ (host) => `The image could not be loaded from ${host}.`,
  formula: "Formula",
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
}
