"""What a route is, to the application that it is put into and to the document that tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .guard import ErrorForm, Handler, error_response

# What can be mounted, each by itself.
PARTS = ("api", "ag-ui", "ai-sdk", "openai", "page")
Answer = Literal["stream", "json", "empty", "file"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, or a header, that may be left out; `about` is one sentence for who asks."""

    name: str
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"


LAST_EVENT_ID = Parameter("Last-Event-ID", "The id of the last event that the viewer has.", place="header")


@dataclass(frozen=True, slots=True)
class Route:
    """`part` is one of PARTS, `form` says how its errors are told; `bodies` names the schemas of what it takes.

    What goes well is an `answer`, or one of `also`, with one of `statuses`; JSON has the schema that `returns` names in
    `answers.py`, and `accepted` that of a 202, where who asks may prefer not to wait. `wire` is the part whose frames
    are streamed, where that is another. The first sentence of the handler's docstring is what the document says of the
    route.
    """

    method: str
    path: str
    handler: Handler
    part: str = "api"
    is_public: bool = False
    form: ErrorForm = error_response
    bodies: tuple[str, ...] = ()
    answer: Answer = "json"
    also: tuple[Answer, ...] = ()
    returns: str = ""
    statuses: tuple[int, ...] = (200,)
    accepted: str = ""
    wire: str = ""
    parameters: tuple[Parameter, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """What it is asked by. Whatever answers GET answers HEAD (RFC 9110, 9.3.2), aiohttp leaving the body out.

        But no stream does: aiohttp leaves in what is written piece by piece, for the next answer to be read from.
        """
        is_whole = "stream" not in (self.answer, *self.also)
        return ("GET", "HEAD") if self.method == "GET" and is_whole else (self.method,)
