"""Decides who may ask, and says in one form what went wrong.

No web page but our own can drive a server on this machine: the Host header must name it (a page that rebinds its own
name to 127.0.0.1 fails here), and a browser's Origin and Sec-Fetch-Site must be ours
(https://fetch.spec.whatwg.org/#origin-header, https://www.w3.org/TR/fetch-metadata/).

Pages of the origins that `--cors-origin` names may ask too, and read the answers
(https://fetch.spec.whatwg.org/#http-cors-protocol). The session cookie is for our own page alone: theirs show the token
in each request, so no answer has Access-Control-Allow-Credentials, and what a browser sends of cookies does not count.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from .. import errors
from ..agent import new_id
from ..config import Config, is_loopback, read_image_host, read_origin

log = logging.getLogger("chatstream.server")
access = logging.getLogger("chatstream.access")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
OWNER: web.RequestKey[str] = web.RequestKey("owner", str)
# Makes the answer that says what went wrong, in the words of the wire that was asked.
ErrorForm = Callable[[web.Request, errors.ChatstreamError], web.Response]
FORM: web.RequestKey[ErrorForm] = web.RequestKey("form", Callable)  # type: ignore[arg-type]
# Headers of the answer that depend on the settings and on who asks.
HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("headers", dict)
LOCAL = "local"  # whoever is let in: there is one owner until there are accounts

CLIENT_GONE = 499  # nginx's word for it, for the access log: nobody reads the answer

# What is broken is reported beside the page, wherever it is mounted: a relative address is the page's. `report-to`
# would tell no more, later, only over HTTPS, and keep Chromium from `report-uri`.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:{hosts}; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; report-uri api/csp-reports"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NAME = re.compile(r"[\w-]+", re.ASCII)  # of a header; the standard's own has more letters, among them the wildcard
_METHODS = "GET, HEAD, POST, PATCH, DELETE"
# What the clients send, so that an answer that a browser keeps is good for all; whatever else is asked for goes along.
_TAKEN = ("authorization", "content-type", "last-event-id", "prefer", "x-run-id")
_TOLD = (
    "X-Run-Id, X-Request-Id, Chatstream-Heartbeat, Retry-After, Location, Preference-Applied, Content-Disposition, "
    "x-should-retry, x-vercel-ai-ui-message-stream"
)
_KEPT = 7200  # seconds: the most for which Chromium believes an answer
_BY_STATUS: dict[int, type[errors.RequestError]] = {
    404: errors.NotFound,
    413: errors.TooLarge,
}


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Stands before every handler. `cookie` is the name, and `session` the value, of what stands for the token."""

    def __init__(self, config: Config) -> None:
        self._token = config.token
        self._hosts = {host.lower() for host in config.allowed_hosts}
        self._own_host = f"[{config.host}]" if ":" in config.host else config.host.lower()
        self._origins = {read_origin(origin) for origin in config.cors_origins}
        hosts = "".join(f" {read_image_host(host)}" for host in config.image_hosts)
        self._headers = _HEADERS | {"Content-Security-Policy": _POLICY.format(hosts=hosts)}
        self.session = hmac.new(config.token.encode(), b"chatstream session", hashlib.sha256).hexdigest()
        # Browsers keep cookies by host, not by port: two servers on one machine must not log each other out.
        self.cookie = f"chatstream_{hashlib.sha256(self.session.encode()).hexdigest()[:12]}"

    async def __call__(
        self, request: web.Request, handler: Handler, *, is_public: bool, form: ErrorForm | None = None
    ) -> web.StreamResponse:
        """Check the request, its token unless the route is public, hand it on, and turn what is raised into an answer.

        What is public is said by the route and not by the path: an application may be mounted under any prefix. A
        handler may set `request[FORM]` once it knows who asks.
        """
        request[REQUEST_ID] = new_id("req")
        request[FORM] = form or error_response
        request[OWNER] = LOCAL
        request[HEADERS] = self._headers | self._cors(request)
        began = time.monotonic()
        status = "gone"
        try:
            response = await self._answer(request, handler, is_public)
            status = str(response.status)
        finally:
            took = (time.monotonic() - began) * 1000
            # The path as it came: decoded it could hold a line break, and so a line of the log.
            path = request.rel_url.raw_path
            access.info("%s %s %s %s %.0f ms", request[REQUEST_ID], request.method, path, status, took)
        return response

    async def _answer(self, request: web.Request, handler: Handler, is_public: bool) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            self._check_host(request)
            self._check_origin(request, is_public)
            if self._is_preflight(request):
                response = _preflight(request)
            else:
                if not is_public:
                    self._check_token(request)
                response = await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            refused = errors.MethodNotAllowed(f"{request.path} takes {allowed}, not {request.method}")
            response = request[FORM](request, refused)
            response.headers["Allow"] = allowed
        except web.HTTPException as error:
            kind = _BY_STATUS.get(error.status, errors.RequestError)
            response = request[FORM](request, kind(f"{request.method} {request.path}: {error.reason}"))
        except errors.ChatstreamError as error:
            if isinstance(error, errors.ProviderError):
                log.warning("%s", error.for_log)
            response = request[FORM](request, error)
        except ConnectionError:
            # The client is gone, which is nobody's error: what a provider's connection raises has another type.
            response = web.Response(status=CLIENT_GONE)
        except Exception:
            log.exception("%s failed", request[REQUEST_ID])
            failure = errors.ChatstreamError("Something went wrong inside chatstream; its log says what.")
            response = request[FORM](request, failure)
        if not response.prepared:
            add_headers(request, response)
        return response

    def _check_host(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        name = _host_name(host)
        if not (is_loopback(name) or name in self._hosts or name == self._own_host):
            raise errors.Misdirected(
                f"this server is not {host[:100]!r}: start it with --allowed-host NAME for names by which it is reached"
            )

    def is_elsewhere(self, request: web.Request) -> bool:
        """Return whether a page of another origin asks, one that may."""
        origin, site = request.headers.get("Origin", ""), request.headers.get("Sec-Fetch-Site")
        return origin in self._origins and not (site == "same-origin" if site else self._is_own(request, origin))

    def _cors(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get("Origin", "")
        named = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _TOLD}
        return ({"Vary": "Origin"} if self._origins else {}) | (named if origin in self._origins else {})

    def _is_preflight(self, request: web.Request) -> bool:
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return asked and request.headers.get("Origin") in self._origins

    def _check_origin(self, request: web.Request, is_public: bool) -> None:
        origin = request.headers.get("Origin")
        if origin in self._origins:
            return
        if origin is not None and not self._is_own(request, origin):
            raise errors.Forbidden(f"requests from pages of {origin[:100]!r} are not accepted")
        site = request.headers.get("Sec-Fetch-Site", "none")
        visit = request.method in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if site not in ("same-origin", "none") and not (visit and is_public):
            raise errors.Forbidden("requests from pages of other sites are not accepted")

    def _is_own(self, request: web.Request, origin: str) -> bool:
        place = origin.partition("://")[2].lower()
        same = place == request.headers.get("Host", "").lower()
        return bool(place) and (same or _host_name(place) in self._hosts)

    def _check_token(self, request: web.Request) -> None:
        if not self._token:
            return
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and _same(shown.strip(), self._token)
        cookie = "" if self.is_elsewhere(request) else request.cookies.get(self.cookie, "")
        if not (by_header or _same(cookie, self.session)):
            raise errors.Unauthorized(
                "this server wants a token: open the address that it printed at its start, "
                "or send the token as 'Authorization: Bearer TOKEN'"
            )


def _preflight(request: web.Request) -> web.Response:
    """Say what a page elsewhere may ask (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
    asked = _NAME.findall(request.headers.get("Access-Control-Request-Headers", "").lower())
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": ", ".join(dict.fromkeys([*_TAKEN, *asked])),
            "Access-Control-Max-Age": str(_KEPT),
        },
    )


def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Give a response the headers that every one has."""
    for name, value in request[HEADERS].items():
        told = response.headers.setdefault(name, value)
        if name == "Vary" and told != value:
            response.headers[name] = f"{told}, {value}"
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers.setdefault("Cache-Control", "no-store")


def error_response(request: web.Request, error: errors.ChatstreamError) -> web.Response:
    body: dict[str, object] = {"code": error.code, "message": error.message, "requestId": request[REQUEST_ID]}
    if error.details:
        body["details"] = error.details
    return web.json_response({"error": body}, status=error.status, headers=error_headers(error))


def error_headers(error: errors.ChatstreamError) -> dict[str, str]:
    headers = dict(getattr(error, "headers", {}))
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(round(seconds))
    return headers


def _host_name(host: str) -> str:
    """Return the name in a `name:port`, an IPv6 address with its brackets."""
    return re.sub(r":\d*$", "", host.strip().lower()).removesuffix(".")


def _same(shown: str, wanted: str) -> bool:
    # A header's bytes that are no UTF-8 come as lone surrogates.
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), wanted.encode())
