"""Providers: each module turns one API into deltas, and this one finds the provider of a model by its name.

`provider:model` names a model where the part before the first colon is a provider below. Any other name is a bare one
(`llama3:8b` too): `claude-*` is anthropic's, `gpt-*`, `chatgpt-*` and `o` + digit are openai's (openai-chat's where
OPENAI_BASE_URL is set), and the others belong to the default provider.
"""

from __future__ import annotations

import difflib
import os
import re

from .. import errors
from .anthropic import Anthropic
from .base import EFFORTS, Effort, Limits, ModelInfo, ModelRequest, Provider
from .local import Local
from .openai import OpenAI
from .openai_chat import OpenAIChat
from .scripted import Scripted

__all__ = [
    "EFFORTS",
    "PROVIDERS",
    "Effort",
    "Limits",
    "ModelInfo",
    "ModelRequest",
    "Models",
    "Provider",
    "get_provider",
]

PROVIDERS: dict[str, type[Provider]] = {
    provider.name: provider for provider in (Anthropic, OpenAI, OpenAIChat, Local, Scripted)
}
# The first of these that can be used is the default.
_PREFERRED = ("anthropic", "openai", "local", "scripted")
# Their models are files and what they have built in.
_FILES = ("local", "scripted")
_OPENAI_NAME = re.compile(r"gpt-|chatgpt-|o\d")


def get_provider(name: str) -> Provider:
    """Return the provider `name`, or the one of `name:model` with that model as its default.

    Raises errors.NotFound, which lists the known ones, for a name that is none.
    """
    head, _, model = name.partition(":")
    if head not in PROVIDERS:
        close = difflib.get_close_matches(head, PROVIDERS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise errors.NotFound(f"unknown provider {head!r}: the known ones are {', '.join(PROVIDERS)}{hint}")
    if head == "local":
        return Local(model)
    if head == "scripted":
        return Scripted(model)
    provider = PROVIDERS[head]()
    provider.default_model = model or provider.default_model
    return provider


class Models:
    """The models that one program can use, by name; `default` names the one that is used when none is named.

    Files (`local:/path`, `scripted:/path`) can be named as the default only: that name is the operator's, every
    other may be anybody's.
    """

    def __init__(self, default: str = "") -> None:
        self._providers: dict[str, Provider] = {name: get_provider(name) for name in PROVIDERS}
        provider, model = self._split(default, self._first_usable())
        if provider in _FILES and default and default == model != PROVIDERS[provider]().default_model:
            known = ", ".join(PROVIDERS)
            raise errors.NotFound(f"unknown model {default!r}: name it as provider:model, by one of {known}")
        self._providers[provider] = get_provider(f"{provider}:{model}")
        self._default = provider

    @property
    def default(self) -> tuple[Provider, str]:
        provider = self._providers[self._default]
        return provider, provider.default_model

    def find(self, name: str = "") -> tuple[Provider, str]:
        """Return the provider and the model that `name` stands for, empty for the default.

        Raises errors.NotFound where it is known that there is no such model.
        """
        head, model = self._split(name, self._default)
        provider = self._providers[head]
        model = model or provider.default_model
        if head in _FILES and model not in self._names_of(provider):
            names = ", ".join(f"{each.provider}:{each.name}" for each in self.offered() if not each.reason)
            raise errors.NotFound(f"unknown model {name!r}: this server offers {names}")
        return provider, model

    def full_name(self, name: str) -> str:
        """Return the `provider:model` that a name stands for; raises errors.NotFound."""
        provider, model = self.find(name)
        return f"{provider.name}:{model}"

    @property
    def secrets(self) -> set[str]:
        """The keys of all of them."""
        return {secret for provider in self._providers.values() for secret in provider.secrets}

    def offered(self) -> list[ModelInfo]:
        return [provider.info(name) for provider in self._providers.values() for name in self._names_of(provider)]

    async def aclose(self) -> None:
        for provider in self._providers.values():
            await provider.aclose()

    @staticmethod
    def _names_of(provider: Provider) -> list[str]:
        built_in = PROVIDERS[provider.name]()
        return list(dict.fromkeys(each.default_model for each in (provider, built_in) if each.is_default_known))

    def _first_usable(self) -> str:
        usable = ((name, self._providers[name]) for name in _PREFERRED)
        return next(name for name, provider in usable if provider.is_default_known and not provider.reason)

    def _split(self, name: str, default: str) -> tuple[str, str]:
        head, _, model = name.partition(":")
        if head in PROVIDERS:
            return head, model
        if name.startswith("claude-"):
            return "anthropic", name
        if _OPENAI_NAME.match(name):
            return "openai-chat" if os.environ.get("OPENAI_BASE_URL") else "openai", name
        if model and difflib.get_close_matches(head, PROVIDERS, 1):
            get_provider(name)  # raises, and says which one may be meant
        return default, name
