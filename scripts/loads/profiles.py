"""How to ask a server for an answer, how its text is told and how it ends well, for each wire that clients speak.

`$message` stands for the question, `$thread` and `$turn` for new ids, `$model` for `--model`, and once the answer has
begun `$run` for its header X-Run-Id and `$after` for the id of the last event that came.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`delta` is in every frame that tells text, `end` in one of an answer that is whole, `error` in one that is not.

    `stop` is asked with POST and `resume` with GET; without them a server has no way to do it.
    """

    path: str
    body: str
    delta: str
    end: str
    error: str
    stop: str = ""
    resume: str = ""


_SAID = '{"id":"1","role":"user","content":"$message"}'
_PARTS = '{"id":"1","role":"user","parts":[{"type":"text","text":"$message"}]}'

PROFILES = {
    "native": Profile(
        path="/api/chat",
        body='{"messages":[{"role":"user","content":"$message"}]}',
        delta='"type":"text"',
        end='"type":"done"',
        error='"type":"error"',
        stop="/api/runs/$run/stop",
        resume="/api/runs/$run/events?after=$after",
    ),
    "agui": Profile(
        path="/ag-ui",
        body=f'{{"threadId":"$thread","runId":"$turn","state":{{}},"tools":[],"context":[],"messages":[{_SAID}]}}',
        delta='"TEXT_MESSAGE_CONTENT"',
        end='"RUN_FINISHED"',
        error='"RUN_ERROR"',
        stop="/ag-ui/$thread/stop",
    ),
    "aisdk": Profile(
        path="/ai-sdk/chat",
        body=f'{{"id":"$thread","trigger":"submit-message","messages":[{_PARTS}]}}',
        delta='"text-delta"',
        end="[DONE]",
        error='"type":"error"',
        stop="/ai-sdk/chat/$thread/stop",
    ),
    "openai": Profile(
        path="/v1/chat/completions",
        body='{"model":"$model","stream":true,"messages":[{"role":"user","content":"$message"}]}',
        delta='"content":"',
        end="[DONE]",
        error='"error":',
    ),
}


def fill(template: str, **values: str) -> str:
    return Template(template).safe_substitute(values)
