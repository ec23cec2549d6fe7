"""Makes one HTML file of any number of results of `scripts/load.py`: verdict, what ran where, tables and plots.

The file asks nothing of anybody: its style, script and plots are in it, and its own policy forbids the rest. All of it
can be read without script, which only adds the values under the pointer. Ratios are to the first result.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from . import plot
from .charts import SERIES, charts
from .compare import comparison
from .markup import Markup, element, escape, join
from .results import BadResult, Run, check, figure, read
from .tables import head, scrolled

__all__ = ["BadResult", "read", "render"]

HERE = Path(__file__).parent
MOST_CHECKS = 8  # that held, and are shown without being asked for

# What a scenario does, and what is asked of the server.
SCENARIOS = {
    "steady": "A fixed number of streams, each at a fixed rate of deltas.",
    "ramp": "More streams in every step, until the server cannot keep up: the breaking point. Times and costs are"
    " over all of a server's own steps; the plots of the steps compare like with like.",
    "burst": "All streams are asked for at the same moment.",
    "soak": "A steady load for a long time: memory and descriptors have to stay where they are.",
    "slow": "Some clients read slowly or not at all: the others may not suffer, nor the server's memory grow much.",
    "disconnect": "Clients go away in mid-answer: the server has to notice and close the stream of the provider.",
    "reconnect": "Clients are cut off and resume from where they were: the text has to be whole.",
    "stop": "Clients ask for their answers to be stopped: the server has to close the stream of the provider.",
}
# Options that say nothing but in some scenarios. Limits are told by the checks.
OPTIONS = {
    **dict.fromkeys(("step", "step_seconds", "max_streams"), ("ramp",)),
    **dict.fromkeys(("slow", "read_rate", "slow_deltas"), ("slow",)),
    "every": ("burst", "reconnect"),
    "wait": ("disconnect", "stop"),
}


def render(results: list[dict[str, Any]]) -> str:
    """Return the HTML of a report on results of scripts/load.py, compared with the first; raises `BadResult`."""
    if not results:
        raise BadResult("there is no result; expected at least one file of scripts/load.py")
    for number, result in enumerate(results, 1):
        check(result, f"result {number}")
    names = distinct([result["name"] for result in results])
    groups = group(results, names)
    script = (HERE / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    title = f"Load report: {listed(names)}"
    body = join(
        element("header", element("h1", "Load report"), overview(results, names, groups)),
        element(
            "main",
            verdict(results, names),
            machines(results, names),
            *(section(runs, f"p{n}") for n, runs in enumerate(groups.values())),
        ),
        element(
            "footer",
            element(
                "p",
                "Made by scripts/load.py report of chatstream. Quote ratios between runs on one "
                "machine: the machine decides the rest.",
            ),
        ),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{(HERE / 'report.css').read_text('utf-8')}</style></head>"
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def distinct(names: Sequence[str]) -> list[str]:
    """Number the names that come twice."""
    return [
        f"{name} ({names[:n].count(name) + 1})" if names.count(name) > 1 else name or "(no name)"
        for n, name in enumerate(names)
    ]


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def group(results: list[dict[str, Any]], names: list[str]) -> dict[str, list[Run]]:
    """Return the runs of each scenario by its heading; what a file has twice is compared in the order it comes."""
    groups: dict[str, list[Run]] = {}
    for number, (result, name) in enumerate(zip(results, names, strict=True)):
        seen: list[str] = []
        for data in result["scenarios"]:
            seen.append(data["scenario"])
            nth = seen.count(data["scenario"])
            heading = data["scenario"] + (f" {nth}" if nth > 1 else "")
            groups.setdefault(heading, []).append(Run(number, name, heading, data))
    return groups


def overview(results: list[dict[str, Any]], names: list[str], groups: dict[str, list[Run]]) -> Markup:
    dates = sorted(date[:10] for result in results if (date := result.get("date")))
    when = f", {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else "") if dates else ""
    links = [("#verdict", "Verdict"), ("#machines", "What ran where")]
    links += [(f"#p{n}", name.capitalize()) for n, name in enumerate(groups)]
    return join(
        element("p", f"{listed(names)}{when}.", f" Ratios are to {names[0]}." if len(names) > 1 else ""),
        element(
            "nav",
            element("ul", *(element("li", element("a", text, href=to)) for to, text in links)),
            aria_label="Parts of the report",
        ),
    )


def verdict(results: list[dict[str, Any]], names: list[str]) -> Markup:
    rows = [
        (name, data["scenario"], each)
        for result, name in zip(results, names, strict=True)
        for data in result["scenarios"]
        for each in data.get("checks") or []
    ]
    failed, held = [row for row in rows if not row[2]["ok"]], [row for row in rows if row[2]["ok"]]
    # A run can fail without a threshold.
    broken = [name for result, name in zip(results, names, strict=True) if result.get("ok") is False]
    if failed:
        kind, text = "fail", f"Failed: {len(failed)} of {count(len(rows), 'check')} did not hold"
    elif broken:
        kind, text = "fail", f"Failed: {listed(broken)} did not end well, though no check says why"
    elif rows:
        kind, text = "pass", f"Passed: {'all ' if held[1:] else ''}{count(len(rows), 'check')} held"
    else:
        kind, text = "none", "No limits were set, so nothing could pass or fail"
    is_long = len(held) > MOST_CHECKS
    shown = checks("Checks", failed if is_long else failed + held)
    more = element("summary", f"{len(held)} checks that held"), checks("Checks that held", held)
    return element(
        "section",
        element("h2", "Verdict"),
        element("p", text, class_=f"verdict {kind}"),
        shown,
        element("details", *more, class_="all") if is_long else None,
        id="verdict",
    )


def checks(label: str, rows: list[tuple[str, str, dict[str, Any]]]) -> Markup | None:
    if not rows:
        return None
    body = [
        element(
            "tr",
            element("td", "✓ pass" if each["ok"] else "✗ fail", class_="pass" if each["ok"] else "fail"),
            element("th", name, scope="row"),
            element("td", scenario),
            element("td", each["text"]),
            *(element("td", figure(each.get(key)), class_="number") for key in ("met", "limit")),
        )
        for name, scenario, each in rows
    ]
    heads = head("Verdict", "Result", "Scenario", "Check", "Met", "Limit")
    return scrolled(element("table", heads, element("tbody", *body), class_="checks"), label)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def machines(results: list[dict[str, Any]], names: list[str]) -> Markup:
    """Write what all results have in common once, and the rest for each."""
    facts = [told(result) for result in results]
    shared = {key: value for key, value in facts[0].items() if all(each.get(key) == value for each in facts)}
    if not results[1:]:
        shared = {}
    is_mixed = len({json.dumps(result.get("machine"), sort_keys=True) for result in results}) > 1
    warning = "These results come from different machines: a ratio says as much of those as of the servers."
    cards = [card(join("All of them"), shared, "", "")] if shared else []
    for number, (name, result, each) in enumerate(zip(names, results, facts, strict=True)):
        own = {key: value for key, value in each.items() if key not in shared}
        command = shlex.join(result.get("command") or [])
        cards.append(card(join(plot.sample(number), name), own, command, f"Command of {name}"))
    return element(
        "section",
        element("h2", "What ran where"),
        element("p", warning, class_="warning") if is_mixed else None,
        element("div", *cards, class_="cards"),
        id="machines",
    )


def told(result: dict[str, Any]) -> dict[str, str]:
    """Return what is known of a result's server, machine and versions; a number there is a name, not a quantity."""
    parts = ({"date": result.get("date")}, *(result.get(key) or {} for key in ("target", "machine", "versions")))
    pairs = chain.from_iterable(part.items() for part in parts)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in pairs if value is not None}


def card(title: Markup, facts: dict[str, str], command: str, label: str) -> Markup:
    rows = [element("div", element("dt", key), element("dd", value)) for key, value in facts.items()]
    code = element("pre", element("code", command), class_="command", tabindex="0", role="region", aria_label=label)
    return element("article", element("h3", title), element("dl", *rows) if rows else None, code if command else None)


def section(runs: list[Run], prefix: str) -> Markup:
    """Write all about a scenario; `prefix` makes its ids unique."""
    busy = [run.name for run in runs if (run.data.get("load") or {}).get("isLimit")]
    limit = "the load tool itself was the limit, not the server: ask for less, or give it more cores."
    missing = [each.title.lower() for each in SERIES if not any(run.series(each.key) for run in runs)]
    return element(
        "section",
        element("h2", runs[0].scenario.capitalize()),
        element("p", SCENARIOS.get(runs[0].data["scenario"])),
        options(runs),
        element("p", f"With {listed(busy)} {limit}", class_="warning") if busy else None,
        comparison(runs),
        errors(runs),
        charts(runs, prefix),
        element("p", f"Not measured over time: {', '.join(missing)}.", class_="note") if missing else None,
        id=prefix,
    )


def options(runs: list[Run]) -> Markup:
    """Write the options that all runs share in a line, and those in which they differ by run."""
    given = [stated(run) for run in runs]
    keys = dict.fromkeys(chain.from_iterable(given))
    shared = [key for key in keys if all(each.get(key) == given[0].get(key) for each in given)]
    lines = [("Options", {key: given[0][key] for key in shared})] if shared else []
    if len(shared) < len(keys):
        lines += [
            (f"Only {run.name}", {key: each.get(key) for key in keys if key not in shared})
            for run, each in zip(runs, given, strict=True)
        ]
    return join(
        *(
            element("p", element("strong", f"{label}: "), ", ".join(f"{key} {figure(values[key])}" for key in values))
            for label, values in lines
        )
    )


def stated(run: Run) -> dict[str, Any]:
    """Return the options that say something of this scenario."""
    scenario = run.data["scenario"]
    return {
        key.replace("_", " "): value
        for key, value in (run.data.get("options") or {}).items()
        if value is not None
        and scenario in OPTIONS.get(key, (scenario,))
        and (key in OPTIONS or not key.startswith(("max_", "min_")))
    }


def errors(runs: list[Run]) -> Markup | None:
    found = [(run.name, text, n) for run in runs for text, n in (run.data.get("errors") or {}).items() if n]
    if not found:
        return None
    rows = [
        element("tr", element("th", who, scope="row"), element("td", text), element("td", figure(n), class_="number"))
        for who, text, n in found
    ]
    table = element("table", head("Result", "Error", "Times"), element("tbody", *rows), class_="errors")
    return scrolled(table, f"Errors: {runs[0].scenario}")
