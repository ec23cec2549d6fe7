"""Test your tools and your prompts without a key: a provider on loopback that plays the turns you write.

    from chatstream import run, tool
    from chatstream.testing import Call, Turn

    pytest_plugins = ["chatstream.testing.plugin"]

    @tool
    async def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

    async def test_the_sum_goes_back_to_the_model(fake_provider):
        fake = await fake_provider([Turn(tools=[Call("add", {"a": 1, "b": 2})]), Turn(text="It is 3.")])
        events = [event async for event in run("anthropic:any-name", "1 + 2?", tools=[add])]
        assert [event.input for event in events if event.type == "tool_started"] == [{"a": 1, "b": 2}]
        assert fake.requests[1].results == ["3"]

The official SDK makes a real request, and `FakeProvider` answers it over a real socket in the form of the API that was
asked: Messages, Responses or Chat Completions. `fake.requests` holds what came: `body` as it was sent, and in one form
for all APIs `tools`, the names that were offered, and `results`, what the model was told that its calls came to.

A `Turn` can also be what goes wrong: a status (`Turn(status=529, times=2, text="Now.")`), a connection that breaks
(`drop`) or goes silent (`stall`), bytes that arrive in odd pieces (`write`), or a body that was recorded elsewhere
(`Turn.from_file("stream.sse", write="random")`). Without pytest it is `async with FakeProvider([...]) as fake:`, whose
`anthropic()`, `openai()` and `openai_chat()` are providers for `chatstream.run`.
"""

from .provider import Call, FakeProvider, Recorded, Turn
from .streams import chat_stream, messages_stream, responses_stream

__all__ = ["Call", "FakeProvider", "Recorded", "Turn", "chat_stream", "messages_stream", "responses_stream"]
