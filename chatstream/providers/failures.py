"""What a provider's refusal means, whatever words it chose: the table from theirs to ours.

An error comes as an HTTP status with a body, or as an object inside a stream whose status was 200. The body's words
decide where the status alone would mislead (a wrong key with status 400, a conversation that is too long with any);
else the status does. What is told to people is ours: of the body only numbers and plain names are repeated.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import errors

_Said = tuple[type[errors.ProviderError], str]
_AGAIN = "Try again in a moment."
_BUSY: _Said = (errors.Overloaded, f"{{label}} is overloaded. {_AGAIN}")
_SLOW: _Said = (errors.ProviderTimeout, f"{{label}} took too long to answer. {_AGAIN}")
_NO_CREDIT: _Said = (
    errors.ProviderForbidden,
    "The account at {label} has no credit left, or reached a limit that was set. Look at its billing page.",
)
_NO_MODEL: _Said = (
    errors.ModelNotFound,
    "{label} has no model named {model}, or not for this key.{models} Name another one by --model or in the request.",
)
_WRONG_KEY: _Said = (errors.ProviderAuth, "{label} refused the API key. Check {keys}.")
_BY_STATUS: dict[int, _Said] = {
    401: _WRONG_KEY,
    402: _NO_CREDIT,
    403: (errors.ProviderForbidden, "The key for {label} is not allowed to use {model}. Use another key or model."),
    404: (errors.ModelNotFound, "{label} knows neither {model} nor this API.{models} Check the name and the address."),
    408: _SLOW,
    409: (errors.ProviderBroken, f"{{label}} could not take the request just now. {_AGAIN}"),
    413: (
        errors.ProviderTooLarge,
        "The conversation is larger than {label} accepts in one request. Start a new one, or take images out.",
    ),
    429: (errors.RateLimited, f"{{label}} is limiting the number of requests. {_AGAIN}"),
    498: _BUSY,
    503: _BUSY,
    504: _SLOW,
    522: _SLOW,
    524: _SLOW,
    529: _BUSY,
}
_FAILED: _Said = (errors.ProviderBroken, f"{{label}} failed to answer (status {{status}}). {_AGAIN}")
_REFUSED: _Said = (
    errors.ProviderRefused,
    "{label} did not accept the request (status {status}). The server's log has what it said.",
)
_PARAMETER: _Said = (errors.ProviderRefused, "{model} does not take {parameter}, or not this value of it.{option}")

_INVALID = (400, 404, 409, 413, 422)
_ANY = (*_INVALID, 500)  # a gateway's 500, or an error in a stream that does not say what it would have been
# The first that fits counts: the statuses, what the words hold, and what it means. Sources are the recorded errors and
# the documents of OpenAI, Anthropic, Gemini, Groq, Mistral, xAI, OpenRouter, Bedrock, Ollama, vLLM and llama.cpp.
_RULES: tuple[tuple[Collection[int], str, _Said], ...] = (
    (
        _ANY,
        r"invalid.{0,3}(signature|data).{0,12}(redacted_)?thinking|thinking.{0,80}blocks?.{0,80}cannot be modified"
        r"|encrypted.content.{0,300}(verified|decrypted)|invalid_encrypted_content|without its required"
        r"|thought.?signature.{0,12}(not valid|invalid)|(invalid|corrupted) thought.?signature|items are not persisted",
        (
            errors.SignatureRefused,
            "{label} did not take back what {model} had thought before. Start a new conversation.",
        ),
    ),
    (
        (*_INVALID, 429),
        r"request too large.{0,200}(per min|TPM)|reduce your message size",
        (
            errors.ProviderTooLarge,
            "The conversation is larger than {label} takes from this account in a minute. Shorten it.",
        ),
    ),
    (
        (400, 402, 403, 429, 500),
        r"insufficient.?(quota|balance|funds|credit)|credit balance|billing_(hard_limit|not_active|error)"
        r"|(more|enough|any|all available) credits|out of credits",
        _NO_CREDIT,
    ),
    (
        (400, 401, 403),
        r"(incorrect|invalid|expired|unknown|missing).{0,10}api.?key|api.?key.{0,40}(not valid|invalid|expired)",
        _WRONG_KEY,
    ),
    (
        _ANY,
        r"(prompt|input|messages|request) ((is|are) )?too long|length of (all|the) messages|range of input length"
        r"|context.?(length|window|size|limit)|maximum prompt length|too.?many.{0,12}tokens|model token limit"
        r"|token limit (reached|exceeded)|(input|prompt) token count|max(imum)? (input )?length"
        r"|prompt contains \d+ tokens",
        (
            errors.ContextOverflow,
            "The conversation is longer than {model} can read{sizes}. Start a new one or shorten it; a server that is "
            "started with --trim leaves out the oldest messages by itself.",
        ),
    ),
    (
        (400, 403, 404),
        r"organization must be verified to (use|stream|access)",
        (
            errors.ProviderForbidden,
            "{label} gives {model} to verified organizations only. Verify yours in its settings, or use another model.",
        ),
    ),
    (
        (403,),
        r"country|region|territor|location is not supported",
        (errors.ProviderForbidden, "{label} does not serve the place where this server is. Use another provider."),
    ),
    (
        _ANY,
        r"tool_use_failed|malformed_function_call",
        (errors.ProviderBroken, f"{{model}} wrote a tool call that {{label}} could not read. {_AGAIN}"),
    ),
    (
        _ANY,
        r"content.?(policy|filter|management)|responsible.?ai|safety system|moderation|usage policies|cyber_policy",
        (errors.ProviderRefused, "{label} refused the request by its rules for content. Ask in other words."),
    ),
    (
        _ANY,
        r"(not|n't|no endpoints found that) support.{0,20} (image(?!/)|vision|multimodal)|image input"
        r"|not a (multimodal|vision)|mmproj|at most 0 image|variant .image_url",
        (errors.ProviderRefused, "{model} cannot take images. Ask a model that can, or take them out."),
    ),
    (
        _ANY,
        r"invalid_image|image_(parse|url|too|file|content)|(failed to|while) download|unsupported_(file|image)"
        r"|file_data|image.{0,60}(too large|exceed|support|invalid|not match|not valid)"
        r"|(process|decode|load|invalid).{0,12} image|expected to be either text or image",
        (
            errors.ProviderRefused,
            "{label} cannot use an image or a file of this conversation: a PNG, JPEG, WebP or GIF file of a few MB is "
            "what it takes. Take it out, or send it in another form.",
        ),
    ),
    (
        _INVALID,
        r"(not|n't|no endpoints found that) support.{0,4} (tool|function)",
        (errors.ProviderRefused, "{model} cannot call tools. Ask another model, or without tools."),
    ),
    (
        _INVALID,
        r"effort|adaptive thinking|thinking.{0,60}not supported|budget_tokens",
        (errors.ProviderRefused, "{model} does not take this effort. Choose another one (--effort), or none."),
    ),
    (
        _INVALID,
        r"maximum allowed number of output|most \d+ (completion|output) tokens|max_\w*tokens.{0,20}too (large|high)",
        (
            errors.ProviderRefused,
            "{model} cannot write an answer as long as was asked for. Lower --max-output-tokens.",
        ),
    ),
    (
        (400, 403, 404, 410, 422),
        r"model_not_found|deployment|no endpoints found|model.{0,300}(not exist|not found|not available|deprecat"
        r"|decommission|retired)|(unknown|invalid|no such|unrecognized|not a valid) model|model:",
        _NO_MODEL,
    ),
    (
        _INVALID,
        r"invalid_function_parameters|invalid schema for|\btools[.\[]\d|input_schema",
        (
            errors.ProviderRefused,
            "{label} does not accept the description of {tool}. Mend its parameters, or leave it out.",
        ),
    ),
    (
        _INVALID,
        r"tool_(use|result|call).{0,300}(without|missing|followed|found|unexpected|preced|correspond)"
        r"|tool (output|call) found|alternat|missing.{0,20}thought.?signature"
        r"|\b(messages|input|contents)[.\[]\d|start with a thinking|prefill"
        r"|text content blocks must",
        (
            errors.ProviderRefused,
            "{label} does not accept this conversation as it stands. Ask again from an earlier message, or start anew.",
        ),
    ),
    ((429, 498, 500, 502, 503, 529), r"overloaded|slow_down|(at|no|over|out of) capacity", _BUSY),
)
_PATTERNS = [(statuses, re.compile(words, re.IGNORECASE | re.DOTALL), said) for statuses, words, said in _RULES]

# Names of errors inside a stream whose status was 200, as the status that would have said it.
_STATUS_BY_NAME = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "tool_use_failed": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_INVALID_NAME = re.compile(r"invalid_|unsupported_|image_|empty_image|failed_to_download")
# The option that sets a parameter, by what the parameter's name holds.
_OPTIONS = {"temperature": "--temperature", "effort": "--effort", "thinking": "--effort", "max_": "--max-output-tokens"}
# What of a request can be left out, by what is said where it is refused. Summaries of reasoning are refused to accounts
# that OpenAI has not verified (github.com/OpenHands/software-agent-sdk/issues/987).
_OPTIONAL = {
    "summary": re.compile(r"reasoning.{0,12}summar", re.IGNORECASE),
    "temperature": re.compile(r"^temperature\b"),
    "cache_control": re.compile(r"^cache_control\b"),
    "stream_options": re.compile(r"^stream_options\b"),
    "thinking": re.compile(r"^thinking\b|adaptive thinking", re.IGNORECASE),
    "effort": re.compile(r"^(reasoning[_.]|output_config\.)?effort\b"),
}
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.\[\]-]{0,60}")
_NAMED = re.compile(
    r"(?:parameter|argument|value|field)s?:? [`'\"]([\w.\[\]]+)[`'\"]"
    r"|[`'\"]([\w.]+)[`'\"]:? (?:is |are |does )?(?:not supported|deprecated|not support)"
    r"|^([\w.]+): (?:extra inputs|input should|field required)",
    re.IGNORECASE | re.MULTILINE,
)
_TOOL_NAME = re.compile(r"(?:function|tool) [`'\"]([\w-]{1,64})[`'\"]", re.IGNORECASE)


# "Please try again in 6m0.5s" (OpenAI, Groq), "Please retry in 34.07s." (Google), "try again in 20ms".
_WAIT = re.compile(
    r"(?:try again|retry) in (?=\d)(?:(\d{1,3})h)?(?:(\d{1,5})m(?!s))?(?:(\d{1,6}(?:\.\d{1,12})?) ?s)?"
    r"(?:(\d{1,9}(?:\.\d{1,12})?)ms)?",
    re.IGNORECASE,
)


def _numbers(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns).replace("N", r"(\d[\d,]*)"), re.IGNORECASE)


_LIMIT = _numbers(
    "context length (?:is|of)(?: only)? N",
    "> N",
    r"allowed \(N",
    "prompt length is N",
    "exceeds the limit of N",
    "n_ctx N",
    r"context size \(N",
    "model with N",
    "token limit: N",
    r"length should be \[\d+, N",
)
_USED = _numbers(
    "N tokens >",
    r"limit: N \+",
    "resulted in N tokens",
    r"input token count(?: of)? \(?N",
    "token count of N",
    r"request \(N tokens",
    "n_prompt_tokens N",
    "(?:contains|has)(?: at least)? N(?: input)? tokens",
    "request contains N",
)
# Of the conversation and the answer together, and of the answer alone.
_TOTAL = _numbers("requested(?: about|:)? N(?: tokens|\\))")
_ANSWER = _numbers("N (?:in|for|of) the (?:completion|output)")
_OVER = _numbers("exceeded max context length by N")

# Where bodies say what is wrong. What they repeat of the request is elsewhere, and says nothing of the kind.
_TELLING = (
    "code",
    "type",
    "status",
    "message",
    "msg",
    "error",
    "errors",
    "detail",
    "metadata",
    "raw",
    "upstream_error",
)

_NO_ROOM = (
    "{model} has too little room left for its answer{sizes}. Shorten the conversation, or lower --max-output-tokens."
)


@dataclass(frozen=True, slots=True)
class Told:
    """Who answered, in the words of the messages above; `keys` names the variables that hold the key.

    `models` is the address where its models are listed.
    """

    label: str
    model: str
    keys: str = ""
    models: str = ""

    def status_error(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> errors.ProviderError:
        """Return the error that an answer with this status and body stands for."""
        said = body if isinstance(body, str) else json.dumps(body, default=str)
        words = "\n".join(_words(body))[:4000]
        parameter = _parameter(body, words)
        rest = _FAILED if status >= 500 else _PARAMETER if parameter and status in _INVALID else _REFUSED
        meanings = (said for statuses, pattern, said in _PATTERNS if status in statuses and pattern.search(words))
        kind, text = next(meanings, _BY_STATUS.get(status, rest))
        sizes = _sizes(words) if kind is errors.ContextOverflow else {}
        if 0 < sizes.get("used", 0) <= sizes.get("limit", 0):
            text = _NO_ROOM
        details: dict[str, Any] = dict(sizes)
        if kind is errors.ProviderRefused and (option := _option(parameter, words)):
            kind, details = errors.OptionRefused, {"option": option}
        tool = _TOOL_NAME.search(words)
        message = text.format(
            label=self.label,
            model=self.model,
            keys=self.keys,
            status=status,
            models=f" Its models are listed at {self.models}." if self.models else "",
            parameter=parameter,
            option=next((f" {option} sets it." for part, option in _OPTIONS.items() if part in parameter), ""),
            tool=f"the tool {tool[1]}" if tool else "a tool",
            sizes=_sizes_text(sizes),
        )
        detail = f"status {status}: {said[:2000]}"
        asked = retry_after(headers or {})
        wait = _asked_wait(words) if asked is None else asked
        if wait is not None and wait > 60:
            message = message.replace(_AGAIN, f"Try again in {math.ceil(wait / 60)} minutes.")
        return kind(message, detail=detail, retry_after=wait, **details)

    def stream_error(self, error: object) -> errors.ProviderError:
        """Return the error that an error object inside a stream stands for."""
        value = error if isinstance(error, dict) else {"message": error}
        named = [value.get("code"), value.get("type")]
        numbers = [int(name) for name in named if isinstance(name, int) or (isinstance(name, str) and name.isdigit())]
        names = [name for name in named if isinstance(name, str)]
        status = next((_STATUS_BY_NAME[name] for name in names if name in _STATUS_BY_NAME), 500)
        if status == 500 and any(map(_INVALID_NAME.match, names)):
            status = 400
        return self.status_error(numbers[0] if numbers and 400 <= numbers[0] < 600 else status, error)

    def lost(self, detail: object) -> errors.ProviderError:
        return errors.ProviderUnreachable(
            f"The connection to {self.label} was lost before the answer was complete.", detail=str(detail)
        )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after-ms` or `Retry-After` (a number or a date, RFC 9110 10.2.3) ask for."""
    try:
        return float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after", "")
    try:
        return max(float(value), 0.0)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(email.utils.mktime_tz(date) - time.time(), 0.0)


def _asked_wait(words: str) -> float | None:
    """Return the seconds that a body asks to wait for: Google, and OpenAI in a stream, say it nowhere else."""
    if not (found := _WAIT.search(words)):
        return None
    hours, minutes, seconds, milliseconds = (float(number or 0) for number in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000 or None


def _words(body: object) -> Iterator[str]:
    """Yield what an error's body says, in whatever shape: `{"error": {...}}`, `{"detail": "..."}`, a list, a text."""
    match body:
        case str() | int():
            yield str(body)
        case list():
            for each in body[:5]:
                yield from _words(each)
        case dict():
            for name in _TELLING:
                yield from _words(body.get(name))
            for name in ("n_prompt_tokens", "n_ctx"):  # llama.cpp's
                if name in body:
                    yield f"{name} {body[name]}"


def _parameter(body: object, words: str) -> str:
    """Return the name of the parameter that is wrong, empty where none is named or what is named is no plain name."""
    value = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    value = value[0] if isinstance(value, list) and value else value
    named: object = None
    if isinstance(value, dict):
        place = value.get("loc")  # of FastAPI: ["body", "temperature"]
        named = value.get("param") or (place[-1] if isinstance(place, list) and place else None)
    if not isinstance(named, str) and (found := _NAMED.search(words)):
        named = next(filter(None, found.groups()))
    return named if isinstance(named, str) and _PLAIN_NAME.fullmatch(named) else ""


def _option(parameter: str, words: str) -> str:
    """Return which part of the request was refused that can be left out, empty where none is."""
    said = f"{parameter}\n{words}"
    return next((name for name, pattern in _OPTIONAL.items() if pattern.search(said)), "")


def _sizes(words: str) -> dict[str, int]:
    """Return the tokens that the conversation has, `used`, and their `limit`, or by how many it is `over`."""
    used, total = _number(_USED, words), _number(_TOTAL, words)
    if used is None and total is not None:
        used = max(total - (_number(_ANSWER, words) or 0), 0)
    found = {"used": used, "limit": _number(_LIMIT, words), "over": _number(_OVER, words)}
    return {name: number for name, number in found.items() if number is not None}


def _number(pattern: re.Pattern[str], words: str) -> int | None:
    if not (found := pattern.search(words)):
        return None
    digits = next(filter(None, found.groups()))
    return int(digits.replace(",", "")[:15])


def _sizes_text(sizes: Mapping[str, int]) -> str:
    match sizes:
        case {"used": used, "limit": limit}:
            return f": {used} tokens, of {limit} at most"
        case {"limit": limit}:
            return f": {limit} tokens at most"
        case {"over": over}:
            return f", by {over} tokens"
        case _:
            return ""
