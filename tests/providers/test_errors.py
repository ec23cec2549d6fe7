"""What providers answer when something is wrong: the recorded answers and others like them, over the real SDKs.

The recorded ones are played where CHATSTREAM_STREAMS names the folder that holds `http_errors.json`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chatstream import errors, user
from chatstream.errors import scrub
from chatstream.providers import ModelRequest
from chatstream.providers.anthropic import Anthropic
from chatstream.providers.base import SdkProvider, Told
from chatstream.providers.openai import OpenAI
from chatstream.providers.openai_chat import OpenAIChat

KEY = "sk-own-0123456789abcdef"
FOLDER = os.environ.get("CHATSTREAM_STREAMS", "")
FILE = Path(FOLDER) / "http_errors.json"
RECORDED: list[dict[str, Any]] = json.loads(FILE.read_text())["errors"] if FOLDER and FILE.is_file() else []
ADAPTERS: dict[str, type[SdkProvider]] = {"messages": Anthropic, "responses": OpenAI, "chat/completions": OpenAIChat}


def api_of(path: str) -> str:
    return next(api for api in ADAPTERS if api in path)


async def refusals(answers: Iterable[tuple[str, int, object, dict[str, str]]]) -> list[errors.ProviderError]:
    """Return what each answer (the API, status, body and headers) becomes, played to that API's adapter."""
    found: list[errors.ProviderError] = []
    coming = list(answers)

    async def refuse(request: web.Request) -> web.Response:
        _, status, body, headers = coming[len(found)]
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    app = web.Application()
    app.router.add_post("/{path:.*}", refuse)
    async with TestServer(app) as server, AsyncExitStack() as stack:
        url = str(server.make_url("/")).rstrip("/")
        providers = {
            api: await stack.enter_async_context(kind(api_key=KEY, base_url=url + ("/v1" if api != "messages" else "")))
            for api, kind in ADAPTERS.items()
        }
        for api, *_ in coming:
            with pytest.raises(errors.ProviderError) as raised:
                async with aclosing(providers[api].stream(ModelRequest("the-model", [user("Hi")]))) as batches:
                    await anext(batches)
            found.append(raised.value)
    return found


# --- the recorded answers ---------------------------------------------------------------------------------------------

# By status, and by what the recorded body holds: the code, whether asking again may help, and words of the text.
NO_MODEL, HISTORY = ("not_found", False, "no model named the-model"), ("bad_request", False, "earlier message")
PICTURE, OVERFLOW = ("bad_request", False, "image"), ("context_overflow", False, "--trim")
EXPECTED: dict[tuple[int, str], tuple[str, bool, str]] = {
    (401, ""): ("auth", False, "_API_KEY"),
    (400, "Incorrect API key"): ("auth", False, "OPENAI_API_KEY"),
    (429, ""): ("rate_limit", True, "Try again"),
    (404, "Resource not found"): ("not_found", False, "address"),
    (404, "model"): NO_MODEL,
    (404, "DeploymentNotFound"): NO_MODEL,
    (400, "model_not_found"): NO_MODEL,
    (400, "prompt is too long"): ("context_overflow", False, "3333404 tokens, of 200000"),
    (400, "maximum context length is 1048565"): ("context_overflow", False, "1250025 tokens, of 1048565"),
    (400, "maximum context length is 200000"): ("context_overflow", False, "2500021 tokens, of 200000"),
    (400, "exceeded max context length by"): ("context_overflow", False, "by 1119046 tokens"),
    (400, "exceeds the context window"): OVERFLOW,
    (400, "too_many_prompt_tokens"): OVERFLOW,
    (400, "while downloading"): PICTURE,
    (400, "unsupported_file"): PICTURE,
    (400, "file_data"): PICTURE,
    (400, "text or image_url type"): PICTURE,
    (400, "effort level"): ("bad_request", False, "--effort"),
    (400, "tool_use_failed"): ("internal", True, "Try again"),
    (400, "No tool output found"): HISTORY,
    (400, "does not match the expected shape"): HISTORY,
    (400, "messages[1].content[0].type"): HISTORY,
    (400, "messages[0].role"): HISTORY,
    (400, "without its required following item"): ("bad_request", False, "thought"),
    (400, "invalid_function_parameters"): ("bad_request", False, "the tool get_current_weather"),
    (400, "unsupported_parameter"): ("bad_request", False, "does not take stop"),
    (400, "web_search_options"): ("bad_request", False, "does not take web_search_options"),
    (400, "decimal_below_min_value"): ("bad_request", False, "--temperature"),
}


def expected(recorded: dict[str, Any]) -> list[tuple[int, str]]:
    body = json.dumps(recorded["body"])
    return [key for key in EXPECTED if key[0] == recorded["status"] and key[1] in body]


@pytest.fixture(scope="module")
def met() -> list[errors.ProviderError]:
    return asyncio.run(
        refusals((api_of(each["path"]), each["status"], each["body"], each["headers"]) for each in RECORDED)
    )


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_a_recorded_error_has_its_code_and_a_text_that_helps(number: int, met: list[errors.ProviderError]) -> None:
    recorded, error = RECORDED[number], met[number]
    keys = expected(recorded)
    assert keys, f"no expectation for {recorded['status']} {recorded['body']}"
    code, retryable, words = EXPECTED[keys[0]]
    assert (error.code, error.retryable) == (code, retryable)
    assert words in error.message
    nothing_leaks(recorded["body"], error)
    assert str(recorded["status"]) in error.detail, "the log has what was said"
    wait = recorded["headers"].get("retry-after-ms") or recorded["headers"].get("retry-after")
    assert (error.retry_after is None) == (wait is None)


@pytest.mark.skipif(not RECORDED, reason="CHATSTREAM_STREAMS names no recorded errors")
def test_every_expectation_was_met_by_some_recorded_error() -> None:
    assert {key for recorded in RECORDED for key in expected(recorded)} == set(EXPECTED)


def nothing_leaks(body: object, error: errors.ProviderError) -> None:
    """Check that of the provider's own sentences and of keys nothing is in what people see, nor keys in the log."""
    for sentence in sentences(body):
        assert sentence not in error.message
    assert KEY not in error.message + error.detail
    assert "Traceback" not in error.message
    assert error.message == scrub(error.message)


def sentences(body: object) -> Iterable[str]:
    if isinstance(body, str):
        yield from (part.strip() for part in body.split(". ") if part.count(" ") > 2)
    elif isinstance(body, dict | list):
        for each in body.values() if isinstance(body, dict) else body:
            yield from sentences(each)


# --- others -----------------------------------------------------------------------------------------------------------


def said(message: str, **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | members}


CHAT, MESSAGES, RESPONSES = "chat/completions", "messages", "responses"
SIGNED, NO_ROOM = (errors.SignatureRefused, False, "thought"), "--max-output-tokens"
# The API, its status and its body; what it becomes, whether asking again may help, and words of the text.
OTHERS: dict[str, tuple[str, int, object, tuple[type[errors.ProviderError], bool, str]]] = {
    "a signature that is not valid": (
        *(MESSAGES, 400, said("messages.1.content.0: Invalid `signature` in `thinking` block")),
        SIGNED,
    ),
    "a signature of another conversation": (
        *(
            MESSAGES,
            400,
            said("messages.1.content.0: Invalid `signature` in `thinking` block. It is bound to another."),
        ),
        SIGNED,
    ),
    "redacted thinking that is not valid": (
        *(MESSAGES, 400, said("messages.3.content.0: Invalid `data` in `redacted_thinking` block")),
        SIGNED,
    ),
    "thinking that was changed": (
        *(MESSAGES, 400, said("messages.1: `thinking` or `redacted_thinking` blocks in it cannot be modified.")),
        SIGNED,
    ),
    "a signature that a gateway refused": (
        *(CHAT, 400, said('{"message":"messages.1.content.0: Invalid `signature` in `thinking` block"}')),
        SIGNED,
    ),
    "encrypted reasoning that cannot be read": (
        *(RESPONSES, 400, said("The encrypted content gA.. could not be verified.", code="invalid_encrypted_content")),
        SIGNED,
    ),
    "an item that was not kept": (
        *(RESPONSES, 404, said("Item 'rs_1' not found. Items are not persisted when `store` is set to false.")),
        SIGNED,
    ),
    "a thought signature of Gemini": (CHAT, 400, [said("Thought signature is not valid")], SIGNED),
    "a thought signature that is missing": (
        *(CHAT, 400, said("Function call is missing a thought_signature in functionCall parts.")),
        (errors.ProviderRefused, False, "earlier message"),
    ),
    "an overflow with room for the answer": (
        *(MESSAGES, 400, said("input length and `max_tokens` exceed context limit: 180000 + 64000 > 200000, decrease")),
        (errors.ContextOverflow, False, NO_ROOM),
    ),
    "an overflow of a small window": (
        *(
            CHAT,
            400,
            said("max_tokens is too large: 9. This model's maximum context length is 8 tokens and has 5 tokens"),
        ),
        (errors.ContextOverflow, False, NO_ROOM),
    ),
    "an overflow that counts the answer": (
        *(
            CHAT,
            400,
            said("The maximum context length is 4097 tokens. However, you requested 9000 tokens "),
        ),
        (errors.ContextOverflow, False, "9000 tokens, of 4097"),
    ),
    "an overflow of llama.cpp": (
        *(CHAT, 400, {"error": {"code": 400, "message": "the request exceeds the available context size, try it"}}),
        (errors.ContextOverflow, False, "--trim"),
    ),
    "an overflow of Gemini": (
        *(CHAT, 400, [said("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).")]),
        (errors.ContextOverflow, False, "1196265 tokens, of 1048575"),
    ),
    "an overflow of xAI": (
        *(CHAT, 400, {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
        (errors.ContextOverflow, False, "537812 tokens, of 131072"),
    ),
    "more than an account may send": (
        *(CHAT, 413, said("Request too large for model x on tokens per minute (TPM): Limit 6000, Requested 7000")),
        (errors.ProviderTooLarge, False, "in a minute"),
    ),
    "a body that is too large": (
        *(MESSAGES, 413, said("Request exceeds the maximum size", type="request_too_large")),
        (errors.ProviderTooLarge, False, "larger than"),
    ),
    "no credit": (
        *(MESSAGES, 400, said("Your credit balance is too low to access the Anthropic API.")),
        (errors.ProviderForbidden, False, "credit"),
    ),
    "a quota": (
        *(RESPONSES, 429, said("You exceeded your current quota", code="insufficient_quota")),
        (errors.ProviderForbidden, False, "credit"),
    ),
    "a key that is not valid, with status 400": (
        *(CHAT, 400, [said("API key not valid. Please pass a valid API key.")]),
        (errors.ProviderAuth, False, "OPENAI_API_KEY"),
    ),
    "a country": (
        *(CHAT, 403, said("Country, region, or territory not supported", code="unsupported_country_region_territory")),
        (errors.ProviderForbidden, False, "place"),
    ),
    "a model that was never pulled": (
        *(CHAT, 404, said("model 'llama9' not found, try pulling it first")),
        (errors.ModelNotFound, False, "/v1/models"),
    ),
    "no such page": (CHAT, 404, "<html>Not Found</html>", (errors.ModelNotFound, False, "address")),
    "no images": (
        *(CHAT, 404, said("No endpoints found that support image input")),
        (errors.ProviderRefused, False, "cannot take images"),
    ),
    "an image that is too large": (
        *(MESSAGES, 400, said("messages.0.content.1.image: image exceeds 5 MB maximum: 9 bytes > 5 bytes")),
        (errors.ProviderRefused, False, "PNG"),
    ),
    "no tools": (
        *(CHAT, 400, said("registry.ollama.ai/library/gemma does not support tools")),
        (errors.ProviderRefused, False, "cannot call tools"),
    ),
    "an answer that is too long": (
        *(MESSAGES, 400, said("max_tokens: 9 > 8, which is the maximum allowed number of output tokens for x")),
        (errors.ProviderRefused, False, NO_ROOM),
    ),
    "a parameter that Anthropic does not know": (
        *(MESSAGES, 400, said("top_p: Extra inputs are not permitted")),
        (errors.ProviderRefused, False, "does not take top_p"),
    ),
    "a parameter that FastAPI does not like": (
        *(CHAT, 422, {"detail": [{"loc": ["body", "temperature"], "msg": "too high", "input": "prompt is too long"}]}),
        (errors.OptionRefused, False, "--temperature"),
    ),
    "a parameter whose name is no name": (
        *(CHAT, 400, said("no", param="<script>alert(1)</script>")),
        (errors.ProviderRefused, False, "status 400"),
    ),
    "rules for content": (
        *(CHAT, 400, said("It was filtered", code="content_filter")),
        (errors.ProviderRefused, False, "rules"),
    ),
    "an overload with status 429": (
        *(CHAT, 429, said("The engine is currently overloaded", type="engine_overloaded_error")),
        (errors.Overloaded, True, "overloaded"),
    ),
    "an overload behind Cloudflare": (CHAT, 529, "<html>", (errors.Overloaded, True, "overloaded")),
    "a gateway's own failure": (
        RESPONSES,
        502,
        "<html>Bad Gateway</html>",
        (errors.ProviderBroken, True, "status 502"),
    ),
    "a status that nobody documents": (RESPONSES, 418, [], (errors.ProviderRefused, False, "status 418")),
    "a body of nothing": (MESSAGES, 400, "", (errors.ProviderRefused, False, "status 400")),
}


@pytest.fixture(scope="module")
def others() -> dict[str, errors.ProviderError]:
    headers = {"Content-Type": "application/json"}
    answers = ((api, status, body, headers) for api, status, body, _ in OTHERS.values())
    return dict(zip(OTHERS, asyncio.run(refusals(answers)), strict=True))


@pytest.mark.parametrize("name", OTHERS)
def test_an_error_has_its_kind_and_a_text_that_helps(name: str, others: dict[str, errors.ProviderError]) -> None:
    _, _, body, (kind, retryable, words) = OTHERS[name]
    error = others[name]
    assert (type(error), error.retryable) == (kind, retryable), error.message
    assert words in error.message
    nothing_leaks(body, error)


# An error object inside a stream whose status was 200.
INSIDE: dict[str, tuple[object, type[errors.ProviderError]]] = {
    "Anthropic's overload": ({"type": "overloaded_error", "message": "Overloaded"}, errors.Overloaded),
    "OpenAI's overload": ({"code": "server_is_overloaded", "message": "x"}, errors.Overloaded),
    "an overload without a name": ({"message": "The server is overloaded, try later"}, errors.Overloaded),
    "OpenAI's failure": ({"code": "server_error", "message": "x"}, errors.ProviderBroken),
    "a rate limit": ({"type": "error", "code": "rate_limit_exceeded", "message": "x"}, errors.RateLimited),
    "a quota": ({"type": "insufficient_quota", "code": "insufficient_quota"}, errors.ProviderForbidden),
    "an overflow": ({"code": "context_length_exceeded", "message": "x"}, errors.ContextOverflow),
    "an overflow of OpenRouter": ({"code": 400, "message": "Token limit reached"}, errors.ContextOverflow),
    "a tool call": ({"type": "invalid_request_error", "code": "tool_use_failed"}, errors.ProviderBroken),
    "an image": ({"code": "failed_to_download_image", "message": "x"}, errors.ProviderRefused),
    "a prompt": ({"code": "invalid_prompt", "message": "x"}, errors.ProviderRefused),
    "reasoning": ({"code": "invalid_encrypted_content", "message": "x"}, errors.SignatureRefused),
    "a number": ({"code": "503", "message": "x"}, errors.Overloaded),
    "a text": ("boom", errors.ProviderBroken),
    "nothing": (None, errors.ProviderBroken),
    "a list": (["boom"], errors.ProviderBroken),
    "codes that are no names": ({"code": {"a": 1}, "type": ["b"]}, errors.ProviderBroken),
}


@pytest.mark.parametrize(("error", "kind"), INSIDE.values(), ids=INSIDE)
def test_an_error_inside_a_stream_is_what_its_status_would_have_said(
    error: object, kind: type[errors.ProviderError]
) -> None:
    assert type(Told("Fake", "m", "KEY").stream_error(error)) is kind


SIZES: dict[str, dict[str, int]] = {
    "prompt is too long: 213462 tokens > 200000 maximum": {"used": 213462, "limit": 200000},
    "exceed context limit: 188240 + 21333 > 200000": {"used": 188240, "limit": 200000},
    "maximum context length is 4097 tokens. However, you requested 5360 tokens (1360 in the messages, 4000 in the "
    "completion).": {"used": 1360, "limit": 4097},
    "maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.": {
        "used": 8545,
        "limit": 8192,
    },
    "maximum context length is 2048 tokens and your request has 10 input tokens (4096 > 2048 - 10)": {
        "used": 10,
        "limit": 2048,
    },
    "maximum context length is 2048 tokens. However, you requested 1000 output tokens and your prompt contains at "
    "least 1049 input tokens": {"used": 1049, "limit": 2048},
    "Your request exceeded model token limit: 8192 (requested: 9999)": {"used": 9999, "limit": 8192},
    "request (1205 tokens) exceeds the available context size (1024 tokens)": {"used": 1205, "limit": 1024},
    "prompt token count of 135355 exceeds the limit of 128000": {"used": 135355, "limit": 128000},
    "Prompt contains 40,000 tokens and is too large for model with 32,768 maximum context length": {
        "used": 40000,
        "limit": 32768,
    },
    "Range of input length should be [1, 30720]": {"limit": 30720},
    "exceeded max context length by 17 tokens": {"over": 17},
    "Your input exceeds the context window of this model.": {},
}


@pytest.mark.parametrize(("message", "sizes"), SIZES.items(), ids=range(len(SIZES)))
def test_an_overflow_has_the_sizes_that_the_provider_named(message: str, sizes: dict[str, int]) -> None:
    error = Told("Fake", "m").status_error(400, said(message))
    assert isinstance(error, errors.ContextOverflow)
    assert error.details == sizes


def test_the_sizes_of_llama_cpp_are_members_of_its_error() -> None:
    body = {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 1205, "n_ctx": 1024}}
    assert Told("Fake", "m").status_error(400, body).details == {"used": 1205, "limit": 1024}


WAITS: dict[str, float | None] = {
    "Limit 30000, Used 29000, Requested 5000. Please try again in 8.2s. Visit https://platform.openai.com": 8.2,
    "Please try again in 20ms.": 0.02,
    "Please try again in 6m0.5s.": 360.5,
    "You exceeded your current quota.\nPlease retry in 34.07s.": 34.07,
    "Please try again in 1h2m3s": 3723.0,
    "Please try again in 30 seconds.": 30.0,
    "Please try again in 2 days.": None,
    "Try again in a moment.": None,
}


@pytest.mark.parametrize(("message", "seconds"), WAITS.items(), ids=range(len(WAITS)))
def test_a_body_may_say_how_long_to_wait(message: str, seconds: float | None) -> None:
    assert Told("Fake", "m").status_error(429, said(message)).retry_after == seconds
    assert Told("Fake", "m").stream_error({"code": "rate_limit_exceeded", "message": message}).retry_after == seconds
    assert Told("Fake", "m").status_error(429, said(message), {"retry-after": "7"}).retry_after == 7


def test_an_organization_that_is_not_verified_is_told_so() -> None:
    body = {"error": {"message": "Your organization must be verified to stream this model.", "param": "stream"}}
    error = Told("OpenAI", "gpt-9").status_error(400, body)
    assert isinstance(error, errors.ProviderForbidden) and "verified" in error.message


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Incorrect API key provided: sk-abc*****xyz.", "Incorrect API key provided: ***"),
        ("Incorrect API key provided: hunter22. You can find", "Incorrect API key provided: *** You can find"),
        ("Your api key: ****-key is invalid", "Your api key: *** is invalid"),
        ('{"authorization": "Bearer abc.def"}', '{"authorization": "Bearer ***"}'),
        ('{"x-api-key": "abcdef"}', '{"x-api-key": "***"}'),
        ("x-api-key: abcdef, and", "x-api-key: ***, and"),
        ("with sk-ant-api03-AAAA_bbbb-cc in it", "with *** in it"),
        ("with AIzaSyA1234567890abcdefghijklm", "with ***"),
        ("invalid x-api-key", "invalid x-api-key"),
        ("a risk-free task-based key", "a risk-free task-based key"),
        ("max_tokens: 64001 > 64000", "max_tokens: 64001 > 64000"),
    ],
)
def test_keys_are_taken_out_of_what_the_log_is_told(text: str, scrubbed: str) -> None:
    assert errors.ProviderError("m", detail=text).detail == scrubbed


def test_a_name_and_a_password_in_the_address_are_not_told() -> None:
    provider = OpenAIChat(api_key=KEY, base_url="https://me:hunter2@host.example:1234/v1")
    error = provider.told("m").status_error(404, said("model 'm' not found"))
    assert "hunter2" not in error.for_log
    assert "https://host.example:1234/v1/models" in error.message
