/** The facts of an answer: what it was made with, what it took, how it ended. Loaded when somebody asks for them. */

import { copyButton } from "./copy.js"
import { make } from "./dom.js"
import { texts } from "./texts.js"

/** @typedef {import("./shown.js").AssistantMessage} AssistantMessage */

/** @param {AssistantMessage} message */
export function facts(message) {
  const told = rows(message).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])
  const id = message.transcript.runId
  if (id) told.push(make("dt", {}, texts.facts.run), make("dd", {}, make("code", {}, id), copyButton(texts.copyRunId, () => id)))
  return make("dl", {}, ...told)
}

/**
 * Return what is known, by name.
 *
 * @param {Pick<AssistantMessage, "transcript" | "createdAt">} message
 * @returns {[string, string][]}
 */
export function rows({ transcript, createdAt }) {
  const { model, usage, timing, outcome, finishReason, error } = transcript
  const names = texts.facts
  const { inputTokens = null, outputTokens = null, cachedTokens = 0, reasoningTokens = 0, estimated = false } = usage ?? {}
  const speed = outputTokens && timing?.generationMs ? outputTokens / (timing.generationMs / 1000) : null
  /** @type {[string, string | null][]} */
  const all = [
    [names.model, model],
    [names.read, inputTokens && texts.tokens(inputTokens, cachedTokens ? texts.cached(cachedTokens) : "", estimated)],
    [names.written, outputTokens && texts.tokens(outputTokens, reasoningTokens ? texts.reasoned(reasoningTokens) : "", estimated)],
    [names.first, timing?.firstTokenMs == null ? null : texts.duration(timing.firstTokenMs)],
    [names.speed, speed && texts.perSecond(speed)],
    [names.duration, timing?.durationMs == null ? null : texts.duration(timing.durationMs)],
    [names.end, error ? error.code : [outcome, finishReason].filter(Boolean).join(", ")],
    [names.time, createdAt && texts.fullTime(new Date(createdAt))],
  ]
  return all.flatMap(([name, value]) => (value ? [/** @type {[string, string]} */ ([name, value])] : []))
}
