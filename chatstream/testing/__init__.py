"""For tests of chatstream and of what is built on it: a provider on loopback that plays written turns, with no key.

    async with FakeProvider([Turn(tools=[Call("add", {"a": 1, "b": 2})]), Turn(text="It is 3.")]) as fake:
        async for event in chatstream.run(fake.anthropic(), [chatstream.user("1 + 2?")], tools=[add]): ...
        assert fake.requests[1].body["messages"][-1]["content"][0]["content"] == "3"

The official SDK makes a real request, and `FakeProvider` answers it over a real socket in the form of its API.
"""

from .provider import Call, FakeProvider, Recorded, Turn
from .streams import chat_stream, messages_stream

__all__ = ["Call", "FakeProvider", "Recorded", "Turn", "chat_stream", "messages_stream"]
