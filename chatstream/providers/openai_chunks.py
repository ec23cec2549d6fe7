"""A stream of Chat Completions, as OpenAI and every compatible server speak it.

It is chunks with `choices[0].delta` (role, content, tool_calls by index), one with the finish reason, one with the
usage and no choices, then `[DONE]`: https://platform.openai.com/docs/api-reference/chat-streaming. Compatible servers
differ in nearly every part of that, so what is read here is what each member says wherever it stands, and nothing is
expected to be there. Where a stream allows two readings, the comment at that line says which one was taken and why.

`<think>` in a content is text: it may be what the answer is about, and a server that can tell thoughts apart has fields
for them and an option that fills them (vLLM's and SGLang's `--reasoning-parser`, llama.cpp's `--reasoning-format`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..deltas import (
    Batch,
    Delta,
    Finish,
    FinishReason,
    PartEnd,
    ReasoningDelta,
    TextDelta,
    TextDetail,
    ToolCallDelta,
    Usage,
    UsageDelta,
    arguments_delta,
)
from ..messages import Citation, read_arguments
from ..sse import Frame
from .base import Surroundings, Told, finish_reason, read_json

_FINISH = {
    "": FinishReason.STOP,  # only `[DONE]` said that it was over
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    # The words of Z.AI, Mistral and Together, and Anthropic's, which some gateways pass on.
    "sensitive": FinishReason.CONTENT_FILTER,
    "model_context_window_exceeded": FinishReason.CONTEXT_OVERFLOW,
    "model_length": FinishReason.CONTEXT_OVERFLOW,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}
# These say that the server failed: of OpenRouter and Mistral, Z.AI, DeepSeek, vLLM and SGLang, and Google's for a call
# that its model could not write, behind which there is no answer.
_FAILED = {"error", "network_error", "insufficient_system_resource", "abort", "function_call_filter"}
_REASONING_FIELDS = ("reasoning_content", "reasoning")
DETAILS = "reasoning_details"
_TEXT, _REASONING = "text", "reasoning"
_CALL_MEMBERS = {"index", "id", "type", "function", "name", "arguments"}
_FUNCTION_MEMBERS = {"name", "arguments"}
_PLAIN_MEMBERS = {"role", "content", *_REASONING_FIELDS}
_NUMBER = (int, float)


def join_details(fragments: Iterable[Any]) -> list[dict[str, Any]]:
    """Return `reasoning_details` with the pieces of each text and summary joined, all others as they are.

    A signature is over a whole text and may come in a last piece without any: sent back in pieces it is refused
    (langchain-ai/langchain#36400, agno-agi/agno#8794). Only neighbours belong together: while it streams OpenRouter
    gives index 0 to several blocks (OpenRouterTeam/ai-sdk-provider#519).
    """
    details: list[dict[str, Any]] = []
    texts: list[list[str]] = []
    last: dict[str, Any] = {}
    for fragment in fragments:
        if not isinstance(fragment, dict):
            continue
        name = _text_member(fragment)
        piece = fragment.get(name)
        if not name or not _continues(last, fragment, piece):
            last = dict(fragment)
            details.append(last)
            texts.append([])
        last |= {member: value for member, value in fragment.items() if value is not None}
        if isinstance(piece, str):
            texts[-1].append(piece)
    for detail, pieces in zip(details, texts, strict=True):
        if pieces:
            detail[_text_member(detail)] = "".join(pieces)
    return details


def _text_member(detail: dict[str, Any]) -> str:
    """Return where a detail has its text, nothing where it has none."""
    kind = detail.get("type")
    return "text" if kind == "reasoning.text" else "summary" if kind == "reasoning.summary" else ""


def _continues(last: dict[str, Any], fragment: dict[str, Any], piece: object) -> bool:
    """Return whether a piece belongs to the detail before it; what is signed takes no more text."""
    same = all(last.get(member) == fragment.get(member) for member in ("type", "index"))
    known = {detail["id"] for detail in (last, fragment) if isinstance(detail.get("id"), str)}
    return same and len(known) < 2 and not (last.get("signature") and piece)


@dataclass(slots=True)
class _Call:
    """A call under way, with its arguments so far; `is_empty` says that they are `{}`, which was not told yet."""

    key: str
    has_id: bool = False
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    is_empty: bool = False

    @property
    def whole(self) -> str:
        """Its arguments, where they can take nothing more; empty where they can."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return ""
        whole = "".join(self.arguments)
        return whole if read_arguments(whole)[0] is not None else ""


class ChatTranslator:
    """Translates one stream of chat completion chunks, of its first choice."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch = Batch()
        self.is_complete = False
        self.around = Surroundings()
        self._speaking = ""
        # Whether a choice was there at all; whether the answer comes as `message`, and its text so far.
        self._answered = False
        self._by_message = False
        self._whole = ""
        self._refused = False
        self._usage: dict[str, Any] = {}
        # Details and citations that were not told yet; `_field` is set once thoughts came in a field of their own.
        self._details: list[Any] = []
        self._field = ""
        self._citations: list[Citation] = []
        self._cited: set[str] = set()
        # Calls by their index and id, and under the id "" the last one of that index; index -1 is any.
        self._calls: dict[tuple[int, str], _Call] = {}
        self._count = 0

    def feed(self, frames: list[Frame]) -> list[Delta]:
        try:
            for frame in frames:
                if frame.data.startswith(b"[DONE]"):
                    self._done()
                    continue
                if said := self.around.text(frame.data):
                    self.batch.join(TextDelta, self.around.key, said)
                    continue
                chunk = read_json(frame, self.told.label)
                if not isinstance(chunk, dict):
                    continue
                if usage := chunk.get("usage"):
                    self._counted(usage)
                choices = chunk.get("choices") or ()
                if not choices or chunk.get("error"):
                    self._raise_error(chunk, frame)
                plain: dict[str, Any] | None = None
                for choice in choices:
                    if not choice.get("index"):  # others are other answers to the same question
                        plain = self._choice(choice)
                if "citations" in chunk or "search_results" in chunk or "x_groq" in chunk:
                    self._aside(chunk)
                elif plain is not None and len(choices) == 1 and not usage:
                    self.around.learn(frame, chunk, plain, "content", _TEXT)
        finally:
            # Some servers count in every chunk: once a read is enough, but also before an error.
            if self._usage:
                self.batch.add(UsageDelta(_usage(self._usage)))
                self._usage = {}
        return self.batch.take()

    def _raise_error(self, chunk: dict[str, Any], frame: Frame) -> None:
        """Raise what a chunk says that went wrong: an error, beside choices or not, or one that is the chunk itself."""
        if error := chunk.get("error"):
            raise self.told.stream_error(error)
        if frame.event == b"error" or chunk.get("object") == "error":
            raise self.told.stream_error(chunk)

    def _aside(self, chunk: dict[str, Any]) -> None:
        """Read what stands beside the choices: Perplexity's and xAI's sources, with titles first, Groq's usage."""
        self._cite(chunk.get("search_results"))
        self._cite(chunk.get("citations"))
        groq = chunk.get("x_groq")
        if isinstance(groq, dict) and not chunk.get("usage"):
            self._counted(groq.get("usage"))

    def _counted(self, usage: Any) -> None:
        if isinstance(usage, dict) and usage:
            self._usage = usage

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """Read a choice; returns its delta where that is more of the text, and nothing else is said."""
        plain = None
        delta = choice.get("delta") or {}
        content = delta.get("content")
        if content and self._speaking == _TEXT and len(delta) == 1 and isinstance(content, str):
            self.batch.join(TextDelta, _TEXT, content)
            plain = delta
        elif delta:
            self._delta(delta)
        elif message := choice.get("message"):
            self._message(message)
        if raw := choice.get("finish_reason"):
            self._finished(str(raw), choice)
            return None
        return plain

    def _finished(self, raw: str, choice: dict[str, Any]) -> None:
        # Google's words have a reason behind them: "function_call_filter: MALFORMED_FUNCTION_CALL".
        word, _, why = raw.partition(": ")
        if word in _FAILED:
            raise self.told.stream_error(
                choice.get("error") or {"code": why.lower() or raw, "message": f"finish_reason {raw}"}
            )
        self._counted(choice.get("usage"))  # Moonshot's place for it
        self._end(raw)

    def _done(self) -> None:
        if not self._answered and not self.is_complete:
            raise self.told.lost("the stream said that it was done, and nothing else")
        if not self.is_complete:
            self._end("")

    def _end(self, raw: str) -> None:
        """Tell the reason; some say `stop` where they call tools or refuse, and many say it again with the usage."""
        self.is_complete = True
        self._tell_details()
        self._tell_citations()
        for call in self._calls.values():
            if call.is_empty:
                call.is_empty = False
                self.batch.add(arguments_delta(call.key, "{}"))
        reason = finish_reason(_FINISH, raw.partition(": ")[0])
        if reason is FinishReason.STOP and self._calls:
            reason = FinishReason.TOOL_CALLS
        elif reason is FinishReason.STOP and self._refused:
            reason = FinishReason.REFUSAL
        self.batch.add(Finish(reason, raw))

    def _message(self, message: dict[str, Any]) -> None:
        """Read what comes as a `message` without a delta.

        Where deltas said something it is the sum of them. Where there are none each may be the next piece, or hold the
        ones before it too: then it begins with them.
        """
        if not self._by_message and (self._speaking or self._calls):
            return
        self._by_message = True
        content = message.get("content")
        if isinstance(content, str):
            content = content.removeprefix(self._whole)
            self._whole += content
        self._delta(message | {"content": content})

    def _delta(self, delta: dict[str, Any]) -> None:
        self._answered = True
        for name in _REASONING_FIELDS:
            if (text := delta.get(name)) and isinstance(text, str):
                self._field = name
                self._reason(text, name)
                break  # some servers say it in both fields: it counts once
        if details := delta.get(DETAILS):
            self._detail(details)
        if content := delta.get("content"):
            self._content(content)
        if delta.keys() <= _PLAIN_MEMBERS:
            return
        if refusal := delta.get("refusal"):
            self._refused = True
            self._content(refusal)
        calls = delta.get("tool_calls") or ()
        for call in [calls] if isinstance(calls, dict) else calls:
            self._call(call)
        if function := delta.get("function_call"):  # the form before there were tools
            self._call({"index": 0, "function": function})
        self._cite(delta.get("annotations"))
        self._cite(delta.get("citations"))

    def _content(self, content: Any) -> None:
        if isinstance(content, list):
            for part in content:
                self._part(part)
            return
        if self._speaking != _TEXT:
            self._speak(_TEXT)
            self._tell_citations()
        self.batch.join(TextDelta, _TEXT, content)

    def _part(self, part: Any) -> None:
        """Read one of a list: Mistral's `thinking` holds a list of texts, Databricks' `reasoning` one of summaries."""
        if isinstance(part, str):
            self._content(part)
        elif part.get("type") in ("thinking", "reasoning"):
            thought = part.get("thinking") or part.get("summary") or part.get("text") or ""
            texts = [thought] if isinstance(thought, str) else [each.get("text") or "" for each in thought]
            self._reason("".join(texts), "")
        elif text := part.get("text"):
            self._content(text)
        else:
            self._cite([part])

    def _reason(self, text: str, name: str) -> None:
        if self._speaking != _REASONING:
            self._speak(_REASONING)
            self.batch.add(ReasoningDelta(_REASONING, field=name))
        self.batch.join(ReasoningDelta, _REASONING, text)

    def _detail(self, details: list[Any]) -> None:
        """Keep details to be sent back; they are shown where no field of its own says the same."""
        for detail in details:
            if not self._field and isinstance(detail, dict):
                text = detail.get(_text_member(detail))
                if text and isinstance(text, str):
                    self._reason(text, "")
            self._details.append(detail)
        if self.is_complete:
            self._tell_details()

    def _speak(self, kind: str) -> None:
        """End the part that was under way: this API says only what comes, not what ends."""
        self.around.forget()
        self._tell_details()
        if self._speaking:
            self.batch.add(PartEnd(self._speaking))
        self._speaking = kind

    def _tell_details(self) -> None:
        if self._details:
            self.batch.add(ReasoningDelta(_REASONING, extra={DETAILS: join_details(self._details)}))
            self._details = []
            if self._speaking != _REASONING:
                self.batch.add(PartEnd(_REASONING))

    def _cite(self, values: Any) -> None:
        """Take in where the text is from, each source once: Perplexity names all of them in every chunk."""
        for value in values if isinstance(values, list) else ():
            citation = _citation(value)
            if citation.url and citation.url not in self._cited:
                self._cited.add(citation.url)
                self._citations.append(citation)
        if self.is_complete or self._speaking == _TEXT:
            self._tell_citations()

    def _tell_citations(self) -> None:
        if self._citations:
            self.batch.add(TextDetail(_TEXT, tuple(self._citations)))
            self._citations = []

    def _call(self, value: dict[str, Any]) -> None:
        function = value.get("function") or value
        call_id, name = str(value.get("id") or ""), function.get("name") or ""
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        call = self._find(value.get("index"), call_id, name, arguments)
        if arguments and call_id and name and arguments == call.whole:
            return  # said again, by a server that sums up at the end
        if arguments == "{}" and not call.name and not self.is_complete:
            # No arguments, or, from gateways to Anthropic (BerriAI/litellm#4537), all that is known before they come.
            call.is_empty, arguments = True, ""
        elif arguments:
            call.is_empty = False
            call.arguments.append(arguments)
        call.name = call.name or name
        extra = _extra(value, function)
        if call_id or name or extra:
            self._speak("")
            self.batch.add(ToolCallDelta(call.key, call_id, name, arguments, extra))
        else:
            self.batch.join(arguments_delta, call.key, arguments)

    def _find(self, index: int | None, call_id: str, name: str, arguments: str) -> _Call:
        """Return the call that a piece belongs to."""
        place = -1 if index is None else index
        call = self._calls.get((place, call_id)) or self._calls.get((place, ""))
        if call is not None and not call_id and not name:
            return call
        if call is None or self._is_new(call, index, call_id, name, arguments):
            self._count += 1
            call = _Call(f"call {self._count}")
        for where in (place, -1):
            self._calls[where, ""] = call
            if call_id:
                self._calls[where, call_id] = call
                call.has_id = True
        return call

    def _is_new(self, call: _Call, index: int | None, call_id: str, name: str, arguments: str) -> bool:
        """Return whether a piece begins another call than the last one of its index and, if known, its id."""
        if call_id and self._calls.get((-1 if index is None else index, call_id)) is call:
            is_other = False
        elif index is None:
            # Gemini and Mistral send whole calls this way, Gemini without ids: a name begins one, and so does an id.
            is_other = bool(name) or (bool(call_id) and call.has_id)
        else:
            # An id may come late, or change after the first piece (poolsideai/pool#9); with a name it is another call.
            is_other = call.has_id and bool(call_id and name)
        # A name alone may be repeated in each piece (never a piece of a name: nobody was seen to split one). But what
        # is whole takes no more arguments; the same ones under the same id are the same call, said again.
        said = bool(name and call.name and arguments) and call.whole
        return is_other or bool(said and not (call_id and said == arguments))


def _extra(call: dict[str, Any], function: dict[str, Any]) -> dict[str, Any] | None:
    """Return the members of a call that this API does not define, to be sent back.

    Venice has `thought_signature` there, Google `extra_content` (ai.google.dev/gemini-api/docs/thought-signatures).
    """
    if call.keys() <= _CALL_MEMBERS and function.keys() <= _CALL_MEMBERS:
        return None
    extra = {name: value for name, value in call.items() if name not in _CALL_MEMBERS and value is not None}
    inner = {name: value for name, value in function.items() if name not in _FUNCTION_MEMBERS and value is not None}
    return extra | ({"function": inner} if inner and function is not call else {})


def _citation(value: Any) -> Citation:
    """Return a source in any of the forms that servers use: an address, an object, or one within another."""
    if isinstance(value, str):
        return Citation(value)
    source = value.get("url_citation", value) if isinstance(value, dict) else {}

    def text(*names: str) -> str:
        return next((found for name in names if isinstance(found := source.get(name), str)), "")

    return Citation(text("url", "uri"), text("title"), text("content", "snippet"))


def _usage(usage: Any) -> Usage:
    """Return the tokens, wherever a server puts them: cached ones have four places."""
    inside, outside = (usage.get(name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    given, made = _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")
    cached = _count(inside, "cached_tokens") or _count(
        usage, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"
    )
    reasoned = _count(outside, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    # xAI counts what was reasoned beside the completion and not in it, as its total shows and its bill does:
    # docs.x.ai/docs/key-information/consumption-and-rate-limits
    if reasoned and given + made + reasoned == _count(usage, "total_tokens"):
        made += reasoned
    searches = _count(usage.get("server_tool_use_details"), "tool_calls_executed")  # OpenRouter's; then Perplexity's
    searches = searches or _count(usage, "num_search_queries")
    return Usage(given, made, cached, reasoned, provider_tool_calls=searches)


def _count(values: Any, *names: str) -> int:
    """Return the first number of these names that is one, 0 where there is none."""
    if isinstance(values, dict):
        for name in names:
            value = values.get(name)
            if isinstance(value, _NUMBER) and 0 < value < 2**53:
                return int(value)
    return 0
