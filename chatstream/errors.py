"""What can go wrong, by who reads it.

    ConfigError     the operator: printed at the start, the program ends with status 2
    RequestError    the client: an HTTP status and a body that says what was met and what was expected
    ProviderError   the reader of the page and, with its `detail`, the log
    ToolError       the model: it becomes the result of the call, and the run goes on
    StorageError    the operator, by the log; the client learns that its request could not be kept

Every class has a `code` from a closed list that stays, and a `status` for HTTP. Its message is written for people and
holds no key, no stack and no provider's body: what a provider really said is in `detail`, which only the log shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

# The closed list: what an error can be to a client.
CODES = (
    *("bad_request", "auth", "forbidden", "not_found", "conflict", "too_large", "rate_limit", "overloaded"),
    *("context_overflow", "tool", "timeout", "network", "internal"),
)


class ChatstreamError(Exception):
    """The root of all errors that chatstream raises itself."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def for_log(self) -> str:
        return self.message


class ConfigError(ChatstreamError):
    """Raised before the server listens; mend the option, the variable or the file that it names."""

    code = "bad_request"
    status = 400


class RequestError(ChatstreamError):
    """Raised for a request that cannot be served; the client changes it before it asks again."""

    code = "bad_request"
    status = 400
    headers: ClassVar[Mapping[str, str]] = {}


class Unauthorized(RequestError):
    code = "auth"
    status = 401
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(RequestError):
    code = "forbidden"
    status = 403


class Misdirected(Forbidden):
    """The Host header names another server (RFC 9110, 15.5.20): a page that rebinds its own name to this address."""

    status = 421


class NotFound(RequestError):
    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    status = 405


class TooLarge(RequestError):
    code = "too_large"
    status = 413


class UnsupportedMedia(RequestError):
    status = 415


class Conflict(RequestError):
    """The request is fine, and what it speaks of has changed meanwhile; read it again."""

    code = "conflict"
    status = 409


class Unavailable(RequestError):
    """Not now: the server starts or ends. Ask again after `retry_after` seconds."""

    code = "overloaded"
    status = 503
    retryable = True
    retry_after: ClassVar[float] = 1.0


class Busy(Unavailable):
    """As many runs go, and as many wait for their turn, as the server takes at once (`--max-runs`, `--max-queue`)."""

    retry_after = 5.0


class StorageError(ChatstreamError):
    """The database could not be read or written: its disk is full, or its file is damaged."""

    status = 503


# What looks like a key: by how keys begin, or by what stands before them ("Incorrect API key provided: ...", a header).
_KEYS = re.compile(
    r"\b(?:sk|pk|rk|xai|gsk|hf|r8|nvapi|AIza|ghp|gho|github_pat)[-_][\w*.-]{4,}|\bAIza[\w-]{20,}"
    r"|(?P<before>(?:\bbearer|\bbasic)\s+"
    r"|(?:key|token|authorization|secret)(?: (?:provided|is))?[\"'`]?\s*[:=]\s*[\"'`]?)"
    r"(?!bearer\b|basic\b)[^\s\"'`,;}]{3,}",
    re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Return `text` without what looks like a key."""
    return _KEYS.sub(lambda found: f"{found['before'] or ''}***", text)


class ProviderError(ChatstreamError):
    """Raised while a model is asked or answers; `detail` is what was really said, for the log alone.

    Keys are taken out of `detail`. `retry_after` is in seconds, None where the provider named no time.
    """

    status = 502

    def __init__(self, message: str, *, detail: str = "", retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.detail = scrub(detail)
        self.retry_after = retry_after

    @property
    def for_log(self) -> str:
        return f"{self.message} ({self.detail})" if self.detail else self.message


class ProviderRefused(ProviderError):
    """The request is not one that this model takes; asking again changes nothing."""

    code = "bad_request"


class ProviderAuth(ProviderError):
    code = "auth"


class OptionRefused(ProviderRefused):
    """The model does not take `details["option"]` of a `ModelRequest`; without it the same request may do."""


class SignatureRefused(ProviderRefused):
    """What the provider signed or encrypted itself, such as reasoning, it does not take back; without it it may."""


class ProviderForbidden(ProviderError):
    code = "forbidden"


class ModelNotFound(ProviderError):
    code = "not_found"


class ContextOverflow(ProviderError):
    """The conversation does not fit; `details` has the tokens that the provider named: `used`, `limit`, `over`."""

    code = "context_overflow"


class ProviderTooLarge(ProviderError):
    code = "too_large"


class RateLimited(ProviderError):
    code = "rate_limit"
    status = 429
    retryable = True


class Overloaded(ProviderError):
    code = "overloaded"
    status = 503
    retryable = True


class ProviderTimeout(ProviderError):
    code = "timeout"
    status = 504
    retryable = True


class AnswerTooLong(ProviderTimeout):
    """The whole answer took longer than it may; another one would too."""

    retryable = False


class ProviderUnreachable(ProviderError):
    """No connection, or one that was lost in the middle of an answer."""

    code = "network"
    retryable = True


class ProviderBroken(ProviderError):
    """The provider failed inside, or said something that its API does not define."""

    code = "internal"
    retryable = True


class ProviderMisread(ProviderBroken):
    """An answer that this version cannot read; it would come again."""

    retryable = False


class ToolError(ChatstreamError):
    """Raise it from a tool: its message is what the model reads."""

    code = "tool"


class UnknownTool(ToolError):
    pass


class InvalidArguments(ToolError):
    pass


class ToolTimeout(ToolError):
    pass
