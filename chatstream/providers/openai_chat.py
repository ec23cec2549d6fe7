"""Chat Completions, as OpenAI and every compatible server take it: https://platform.openai.com/docs/api-reference/chat

A request is built here; what is answered is read by `openai_chunks`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..messages import (
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    sendable,
    system_text,
)
from .base import ModelInfo, ModelRequest, SdkProvider, Told, Translator
from .openai_chunks import DETAILS, ChatTranslator, join_details

# OpenAI's reasoning models refuse a temperature and take an effort; the others the other way round.
_REASONING_MODEL = re.compile(r"o\d|gpt-[5-9](?!.*chat)")
# Those of OpenAI's own models that take no image: https://platform.openai.com/docs/models
_BLIND = re.compile(r"gpt-3|gpt-4(?:-\d{4}|-32k|$)|o1-(?:mini|preview)|o3-mini|.*-(?:audio|search)-preview")
# Mistral's models by their names, what their ids of calls look like, and what they are told to have said when stopped.
_MISTRAL = re.compile("mi[sx]tral|ministral|magistral|codestral|devstral|pixtral|voxtral", re.IGNORECASE)
_MISTRAL_ID = re.compile("[A-Za-z0-9]{9}")
_STOPPED = "(I was stopped here.)"


class OpenAIChat(SdkProvider):
    """OpenAI's chat models, or with `OPENAI_BASE_URL` those of Ollama, vLLM, llama.cpp, OpenRouter and the like."""

    name = "openai-chat"
    label = "OpenAI"
    default_model = "gpt-6.1-terra"
    sdk = "openai"
    client_class = "AsyncOpenAI"
    key_variables = ("OPENAI_API_KEY",)
    base_variable = "OPENAI_BASE_URL"
    home = "https://api.openai.com/v1"
    models_path = "/models"

    @property
    def is_compatible(self) -> bool:
        """Whether it is another server than OpenAI's own, whose address may be set too, or a region's of it."""
        host = urlsplit(self.base_url).hostname or ""
        return bool(self.base_url) and not f".{host}".endswith(".api.openai.com")

    @property
    def needs_key(self) -> bool:
        return not self.is_compatible  # servers of one's own mostly want none

    @property
    def is_default_known(self) -> bool:
        return not self.is_compatible or self.default_model != type(self).default_model

    def info(self, model: str) -> ModelInfo:
        reasons = is_reasoning_model(model)
        # Of another server's models nothing is known: one that cannot see an image says so itself.
        images = self.is_compatible or not _BLIND.match(model)
        label = f"{model} ({self.shown})"
        return ModelInfo(self.name, model, label, images=images, reasoning=reasons, reason=self.reason)

    def asking(self, request: ModelRequest) -> tuple[Any, dict[str, Any]]:
        body = build_request(request, self.name, compatible=self.is_compatible)
        # What goes as `extra_body` the SDK sends as it is. The rest it walks against its types, every message and tool
        # of it, which was a quarter of a short request's cost (measured) and grows with the conversation.
        parameters = {"model": request.model, "messages": [], "stream": True, "extra_body": body}
        return self._client.chat.completions.with_streaming_response.create, parameters

    def translator(self, told: Told) -> Translator:
        return ChatTranslator(told)


def build_request(request: ModelRequest, provider: str, *, compatible: bool) -> dict[str, Any]:
    """Return the body of a request; `compatible` is another server than OpenAI's own."""
    messages: list[dict[str, Any]] = []
    if system := system_text(request.messages, request.system):
        messages.append({"role": "system", "content": system})
    # OpenAI takes ids of at most 40 characters; of compatible servers some want their own back as they were.
    fit_id = str if compatible else lambda call_id: call_id[:32]
    # This API has no tools of its own: an answer that ends with one has ended.
    known = [
        replace(each, parts=tuple(part for part in each.parts if not isinstance(part, Opaque)))
        for each in request.messages
    ]
    history = sendable(known, f"{provider}:{request.model}", fit_id)
    history = _for_mistral(history) if _MISTRAL.search(request.model) else history
    asked = max((index for index, message in enumerate(history) if message.role == "user"), default=0)
    for index, message in enumerate(history):
        messages.extend(_messages(message, with_reasoning=index > asked))
    # OpenAI's own servers know `max_tokens` as the older name; many compatible ones know only that. The models that
    # reason refuse it, wherever they run: Azure's and a gateway's too (anomalyco/opencode#37964).
    limit = "max_tokens" if compatible and not is_reasoning_model(request.model) else "max_completion_tokens"
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream": True,
        limit: request.max_output_tokens,
    }
    if "stream_options" not in request.without:
        parameters["stream_options"] = {"include_usage": True}
    if request.tools:
        parameters["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.effort is not None and (compatible or is_reasoning_model(request.model)):
        parameters["reasoning_effort"] = request.effort
    if request.temperature is not None and not is_reasoning_model(request.model):
        parameters["temperature"] = request.temperature
    return parameters


def is_reasoning_model(name: str) -> bool:
    """Return whether it is one of OpenAI's models that reason, wherever it runs (`openai/gpt-5`, `openai.gpt-5.6`)."""
    return bool(_REASONING_MODEL.match(name.rpartition("/")[2].removeprefix("openai.")))


def _for_mistral(history: Sequence[Message]) -> list[Message]:
    """Return a history as Mistral's models take it, which refuse two things of it (400), wherever they run.

    A call's id has nine letters and digits, so that another provider's is refused (langchain-ai/langchain#24668), and
    no question follows results at once, as it does where a run was stopped (zed-industries/zed#31736).
    """

    def fit(call_id: str) -> str:
        return call_id if _MISTRAL_ID.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]

    told: list[Message] = []
    for message in history:
        if told and told[-1].role == "tool" and message.role == "user":
            told.append(Message("assistant", (Text(_STOPPED),)))
        parts = tuple(
            replace(part, id=fit(part.id))
            if isinstance(part, ToolCall)
            else replace(part, tool_call_id=fit(part.tool_call_id))
            if isinstance(part, ToolResult)
            else part
            for part in message.parts
        )
        told.append(Message(message.role, parts))
    return told


def _messages(message: Message, *, with_reasoning: bool) -> list[dict[str, Any]]:
    """Return a message in the API's form: one for each result, none where nothing is left that this API knows."""
    if message.role == "tool":
        return [
            {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.content}
            for part in message.parts
            if isinstance(part, ToolResult)
        ]
    content = _content(message)
    if not content and not message.calls:
        return []
    # With calls `content` may be null, and has to be there: vLLM, SGLang and others refuse a message without it (400),
    # Bedrock one with "" (vercel/ai#13466), and Ollama's templates read "" as another way to call (vercel/ai#12390).
    value: dict[str, Any] = {"role": message.role, "content": content or None}
    if message.calls:
        value["tool_calls"] = [_call(call) for call in message.calls]
    if message.role == "assistant":
        value |= _reasoning(message, with_reasoning=with_reasoning)
    return [value]


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Return a text as a string, which is all that some servers take, and only one with images as a list."""
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            url = f"data:{part.media_type};base64,{part.data}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    return content


def _call(call: ToolCall) -> dict[str, Any]:
    """Return a call with all that its server sent with it, each member where it stood: a signature above all."""
    extra = dict(call.extra)
    # As it came where it was an object: servers parse it again, and refuse the history where they cannot.
    function = {"name": call.name, "arguments": call.arguments if call.input else "{}"}
    if isinstance(inner := extra.pop("function", None), dict):
        function = inner | function
    return extra | {"id": call.id, "type": "function", "function": function}


def _reasoning(message: Message, *, with_reasoning: bool) -> dict[str, Any]:
    """Return what was thought, in the field it came in: servers that send it want it back.

    `reasoning_details` hold all of it, signed, and go back whole and always, as OpenRouter's document asks
    (openrouter.ai/docs/use-cases/reasoning-tokens). Plain text of earlier questions is left out, as DeepSeek's and
    Qwen's documents ask.
    """
    thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
    given = [value for part in thoughts if isinstance(value := part.extra.get(DETAILS), list)]
    if details := join_details(detail for value in given for detail in value):
        return {DETAILS: details}
    fields: dict[str, str] = {}
    for part in thoughts if with_reasoning else ():
        if part.field:
            fields[part.field] = fields.get(part.field, "") + part.text
    return fields
