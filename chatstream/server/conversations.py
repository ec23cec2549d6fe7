"""The routes of stored conversations: make, list, search, read, change, delete and bring back, export and import."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from .. import errors
from ..config import Config
from ..conversations import conversation_to_json, tree_to_json
from ..runs import Runs
from ..transfer import read_tree, to_file
from . import answers
from .bodies import CONVERSATION, CONVERSATION_CHANGE, IMPORT, read_body
from .frontend import aside
from .guard import OWNER
from .routes import Parameter, Route

Routes = list[Route]  # what `list` below hides from the annotations behind it
MOST = 200  # conversations in one answer
_LISTED = (
    Parameter("q", "Words that its title or its messages hold."),
    Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}),
    Parameter("before", "The `next` of the answer before."),
)
_FORMAT = Parameter("format", "Ask for a file instead.", {"enum": ["md", "json"]})


class Conversations:
    def __init__(self, config: Config, runs: Runs) -> None:
        self._config = config
        self._runs = runs
        self._store = runs.store

    @property
    def routes(self) -> Routes:
        one = "/api/conversations/{id}"
        return [
            Route("GET", "/api/conversations", self.list, returns=answers.CONVERSATIONS, parameters=_LISTED),
            Route(
                *("POST", "/api/conversations", self.create),
                bodies=(CONVERSATION,),
                returns=answers.CONVERSATION,
                statuses=(201,),
            ),
            Route(
                *("POST", "/api/conversations/import", self.take_in),
                bodies=(IMPORT,),
                returns=answers.CONVERSATION,
                statuses=(201,),
            ),
            Route("GET", one, self.read, also=("file",), returns=answers.TREE, parameters=(_FORMAT,)),
            Route("PATCH", one, self.change, bodies=(CONVERSATION_CHANGE,), returns=answers.CONVERSATION),
            Route("DELETE", one, self.delete, answer="empty"),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Make a conversation, which has no message yet."""
        body = await read_body(request, CONVERSATION, self._config.max_body)
        conversation = await self._store.create(request[OWNER], **self._settings(body))
        return web.json_response(conversation_to_json(conversation), status=201)

    async def take_in(self, request: web.Request) -> web.Response:
        """Make a conversation of one that was exported as JSON, under new ids."""
        body = await read_body(request, IMPORT, self._config.max_body)
        conversation, nodes, runs = await aside(request, partial(read_tree, body, time.time()))
        try:
            model = conversation.model and self._runs.models.full_name(conversation.model)
        except errors.NotFound:
            model = ""  # what another server had and this one does not is its default here
        conversation = replace(conversation, model=model)
        conversation = await self._store.add(request[OWNER], conversation, nodes, runs)
        return web.json_response(conversation_to_json(conversation), status=201)

    async def list(self, request: web.Request) -> web.Response:
        """List the conversations, newest first, or those that hold the words of `q`."""
        asked = request.query.get("limit", "50")
        if not (asked.isdecimal() and asked.isascii() and 1 <= int(asked[:9]) <= MOST):
            raise errors.RequestError(f"limit: {asked[:20]!r} is not a number from 1 to {MOST}")
        if (words := request.query.get("q", "")).strip():
            found, cursor = await self._store.search(request[OWNER], words, int(asked)), ""
        else:
            found, cursor = await self._store.list(request[OWNER], int(asked), request.query.get("before", ""))
        told = [conversation_to_json(conversation) for conversation in found]
        return web.json_response({"conversations": told, "next": cursor or None})

    async def read(self, request: web.Request) -> web.Response:
        """Return a conversation as a tree, or as a file where a format is asked for."""
        owner, id = request[OWNER], request.match_info["id"]
        form = request.query.get("format", "")
        if not form:
            tree = await self._store.tree(owner, id)
            # A long conversation takes long to write, and others' streams wait for the loop meanwhile.
            body = await asyncio.to_thread(lambda: orjson.dumps(tree_to_json(*tree)))
            return web.Response(body=body, content_type="application/json", charset="utf-8")
        if form not in ("md", "json"):
            raise errors.RequestError(f"format: {form[:20]!r} is neither md nor json")
        tree = await self._store.tree(owner, id)
        name, content_type, data = await asyncio.to_thread(to_file, *tree, form)
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        headers = {"Content-Type": content_type, "Content-Disposition": disposition}
        return web.Response(body=data, headers=headers)

    async def change(self, request: web.Request) -> web.Response:
        """Change what a conversation is asked with and how it is shown, or bring back one that was deleted."""
        body = await read_body(request, CONVERSATION_CHANGE, self._config.max_body)
        changes = self._settings(body) | {"leaf_id": body.get("leafId"), "pinned": body.get("pinned")}
        id, restore = request.match_info["id"], "deleted" in body
        conversation = await self._store.change(request[OWNER], id, **changes, restore=restore)
        return web.json_response(conversation_to_json(conversation))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a conversation, which can be brought back for ten minutes, and stop what is being written in it."""
        await self._runs.delete(request[OWNER], request.match_info["id"])
        return web.Response(status=204)

    def _settings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what a request says of these, the model by its whole name; raises RequestError for an unknown one."""
        settings: dict[str, Any] = {name: body[name] for name in body.keys() & {"title", "system", "model"}}
        if body.get("model"):
            try:
                settings["model"] = self._runs.models.full_name(body["model"])
            except errors.NotFound as error:
                raise errors.RequestError(f"model: {error.message}") from error
        return settings
