"""The report on results of scripts/load.py: what it says, what it refuses, and that nothing in it can become markup."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.loads import charts, compare, plot, report, results
from tests.load_results import histogram, ramp, result, scenario, stop

STYLE = (Path(report.__file__).parent / "report.css").read_text("utf-8")
NAMES = ["ours", "hono + anthropic", "hono + openai", "AI SDK", "FastAPI", "pydantic-ai"]
VOID = {"meta", "link"}


class Page(HTMLParser):
    """Reads a report: its text in order, its tags with attributes, and whether all of them are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= had.items() for name, had in self.tags)


def page(*files: dict[str, Any]) -> Page:
    return Page(report.render(list(files)))


def svgs(html: str) -> list[ET.Element]:
    """Return the plots, which are well-formed XML."""
    return [ET.fromstring(found) for found in re.findall(r"<svg [^>]*role=.*?</svg>", html, re.DOTALL)]


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_number_of_results_is_shown_with_a_legend_a_reading_and_a_table_for_each_plot(count: int) -> None:
    html = report.render([result(name, scenario(by=n + 1), ramp(n + 1)) for n, name in enumerate(NAMES[:count])])
    shown, drawn = Page(html), svgs(html)

    figures = shown.count("figure")
    assert figures == len(drawn) == 2 * (3 + 3 + len(charts.SERIES)) - 6 + len(charts.STEPS) + 6
    assert figures == shown.count("figcaption") == shown.count("ul", **{"class": "legend"})
    assert html.count("<summary>In figures</summary>") == figures
    assert all(name in shown.text for name in NAMES[:count])
    for svg in drawn:
        title, description = svg.find("title"), svg.find("desc")
        assert title is not None and description is not None
        assert title.text and description.text
        assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_ids_and_the_names_of_regions_are_unique() -> None:
    shown = page(result("a", scenario(), ramp(), stop(), scenario()), result("b", scenario(), ramp(), stop()))
    for key in ("id", "aria-label"):
        values = [had[key] for _, had in shown.tags if key in had]
        assert len(values) == len(set(values))


def test_the_file_asks_for_nothing() -> None:
    html = report.render([result(), result("other")])
    assert "default-src 'none'" in html
    assert not re.search(r"""(src|href)=["'](?!#|data:)|url\(|@import|fetch\(|https?://(?!127\.0\.0\.1:8000)""", html)


def test_a_failed_check_is_the_verdict_and_comes_first() -> None:
    words = page(result("ours"), result("slower", scenario(by=4))).words
    assert "Failed: 1 of 2 checks did not hold" in words
    rows = [n for n, word in enumerate(words) if word in ("✓ pass", "✗ fail")]
    assert words[rows[0] : rows[0] + 6] == ["✗ fail", "slower", "steady", "latency p99, ms", "8", "5"]
    assert words[rows[1] : rows[1] + 6] == ["✓ pass", "ours", "steady", "latency p99, ms", "2", "5"]


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (result("ours"), "Passed: 1 check held"),
        (result("ours", scenario(), ramp()), "Passed: all 2 checks held"),
        (result("ours", scenario(checks=[])), "No limits were set, so nothing could pass or fail"),
        (result("ours", scenario(checks=None), ok=False), "Failed: ours did not end well, though no check says why"),
        (result("ours", scenario(checks=[{"text": "x", "ok": True}] * 20)), "20 checks that held"),
    ],
)
def test_the_verdict(given: dict[str, Any], verdict: str) -> None:
    assert verdict in page(given).words


@pytest.mark.parametrize(
    ("value", "base", "better", "said"),
    [
        (2, 4, -1, "0.5x better"),
        (4, 2, -1, "2.0x worse"),
        (4, 2, 1, "2.0x better"),
        (31, 1, -1, "31x worse"),
        (1.04, 1, -1, "1.04x same"),
        (1.06, 1, -1, "1.1x worse"),
        (3, 3, -1, "same"),
        (5, 0, -1, "worse"),
        (0, 5, -1, "better"),
        (4, 2, 0, ""),
        (None, 2, -1, ""),
        (2, None, -1, ""),
    ],
)
def test_a_ratio_says_which_is_better(value: float, base: float, better: int, said: str) -> None:
    assert compare.ratio(value, base, better).replace(compare.TIMES, "x") == said


def test_what_is_null_or_missing_is_left_out_and_named() -> None:
    bare = {"scenario": "steady", "series": {"t": [0, 1], "cpu": [None, None], "streams": [1, None]}}
    empty = scenario(latencyMs=None, server=None, series=None, histograms=None, checks=None, share=None, options=None)
    for files in ([result("a", bare)], [result("a", empty)], [result("a", bare), result("b"), result("c", empty)]):
        text = page(*files).text
        assert "None" not in text and "nan" not in text
    alone = page(result("a", bare, date=None, machine=None, versions=None, target=None, command=None))
    assert alone.count("figure") == 1
    assert "Not measured over time: latency over time, median" in alone.text
    assert "open streams" not in alone.text


def test_scenarios_are_compared_with_the_first_result_that_has_them() -> None:
    text = page(result("a", scenario()), result("b", ramp()), result("c", ramp(2), scenario(by=2))).text
    assert "Ratios are to a; " in text and "Ratios are to b; " in text
    assert text.count("2.0" + compare.TIMES + " worse") > 8


def test_results_of_one_name_are_numbered() -> None:
    assert "x (1) and x (2)" in page(result("x"), result("x")).text


def test_a_ramp_tells_what_was_held_and_where_it_broke() -> None:
    html = report.render([result("a", ramp()), result("b", ramp(2))])
    held, breaks = (re.search(rf"{text}.*?</tr>", html) for text in ("Streams held", "Breaks at so many"))
    assert held and breaks
    assert re.findall(r"<span>(.*?)</span>", held[0]) == ["800", "400"]
    assert re.findall(r"<span>(.*?)</span>", breaks[0]) == ["900", "500"]
    assert html.count('class="cross"') == html.count("breaks here") == 2 * len(charts.STEPS)


def test_other_machines_other_options_errors_and_a_busy_load_tool_are_told() -> None:
    other = scenario(errors={"connection refused": 3}, load={"isLimit": True})
    other["options"] = {"streams": 100, "rate": 50, "step": 50, "max_gap_p99": 9}
    shown = page(result("a"), result("b", other, machine={"cpu": "Another", "cores": 64}))
    assert "These results come from different machines" in shown.text
    assert "With b the load tool itself was the limit" in shown.text
    assert "connection refused" in shown.text
    assert "streams 200, seconds 20" in shown.words and "streams 100, seconds —" in shown.words
    assert "step 50" not in shown.text


def test_the_tail_in_figures_has_the_percentiles_of_the_summary() -> None:
    buckets = [[1, 900], [2, 90], [4, 9], [8, 1]]
    html = report.render([result("a", {"scenario": "steady", "histograms": {"gapMs": buckets}})])
    table = html.partition('aria-label="Gap: share that took longer (steady), in figures"')[2].partition("</table>")[0]
    rows = re.findall(r"<th scope=.row.>(.*?)</th><td class=.number.>(.*?)</td>", table)
    assert rows == [("50%", "1"), ("90%", "1"), ("99%", "2"), ("99.9%", "4"), ("99.99%", "8")]


@pytest.mark.parametrize("value", [5e-324, 1e-30, 1e15])
def test_no_number_is_too_odd_to_be_drawn(value: float) -> None:
    odd = scenario(series={"t": [0, value], "cpu": [value, 0], "latencyP99Ms": [1, value], "rssMb": [-value, value]})
    odd["histograms"] = {"gapMs": [[value, 1], [1, 1], [1, 2]], "latencyMs": [[3, 4]], "ttftMs": [[value, 0]]}
    assert page(result("a", odd | {"ttftMs": {"p50": value}})).count("figure") == 3 + 4


def test_numbers_beyond_reason_are_refused() -> None:
    with pytest.raises(report.BadResult, match=r"result 1: at \$.scenarios\[0\].seconds 1e\+300 is greater than"):
        report.render([result("a", scenario(seconds=1e300))])


EVIL = "</script><img src=x onerror=alert(1)>\"'&\ud800\x00"


def test_nothing_of_a_file_becomes_markup() -> None:
    bad = scenario(EVIL, errors={EVIL: 2}, options={EVIL: EVIL}, checks=[{"text": EVIL, "ok": False, "met": EVIL}])
    more = {"machine": {EVIL: EVIL}, "versions": {EVIL: EVIL}, "command": [EVIL], "target": {"url": EVIL}, "date": EVIL}
    html = report.render([result(EVIL, bad, **more), result(EVIL, bad)])
    html.encode("utf-8")
    shown = Page(html)
    assert shown.count("img") == 0 and shown.count("script") == 1
    assert not any(name.startswith("on") for _, had in shown.tags for name in had)
    assert "<img src=x onerror=alert(1)>" in shown.text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "at $ [] is not of type 'object'"),
        (b'{"name": 1}', "is a required property"),
        (json.dumps(result(chatstreamLoad=2)), "at $.chatstreamLoad 1 was expected"),
        (json.dumps(result(scenarios=[])), "at $.scenarios [] should be non-empty"),
        (json.dumps(result("a", scenario(deltas="many"))), "at $.scenarios[0].deltas 'many' is not of type 'number'"),
        (json.dumps(result("a", scenario(deltas=float("nan")))), "NaN is no number"),
        (json.dumps(result()).replace("20.1", "1e999"), "1e999 is no number"),
        (json.dumps(result("a", scenario(series={"t": [0, 1], "cpu": [1]}))), "series cpu of steady has 1 values"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_what_was_met_and_what_was_expected(
    tmp_path: Path, content: bytes | str, why: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(report.BadResult) as refused:
        report.read([file])
    assert str(refused.value).startswith(f"{file}: ") and "expected" in str(refused.value)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_missing_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(report.BadResult, match=r"none.json: No such file"):
        report.read([tmp_path / "none.json"])
    with pytest.raises(report.BadResult, match="expected at least one"):
        report.render([])
    with pytest.raises(report.BadResult, match=r"result 2: at \$"):
        report.render([result(), {}])


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(result("a")))
    assert report.read([tmp_path / "a.json"]) == [result("a")]


@pytest.mark.parametrize("values", [[0.0], [0.4, 97], [3], [1e-7, 2e-7], [1999, 2001], [0, 1e9], [-5, 5]])
def test_an_axis_holds_its_values_between_round_ticks(values: list[float]) -> None:
    axis = plot.linear("x", values)
    steps = {round(after - tick, 12) for tick, after in pairwise(axis.ticks)}
    assert axis.low <= min(values) and max(values) <= axis.high
    assert 2 <= len(axis.ticks) <= 8 and len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"
    assert all(0 <= axis.at(value) <= 1 for value in values)


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.3, 0.31], [7], [0.04, 9000], [1e-6, 1e6], [0, 0.5, 12]])
def test_a_logarithmic_axis_holds_its_values_between_round_ticks(values: list[float]) -> None:
    axis = plot.logarithmic("x", values)
    positive = [value for value in values if value > 0]
    assert 0 < axis.low < axis.high
    assert all(axis.low <= value <= axis.high for value in positive)
    assert 2 <= len(axis.ticks) <= 8
    assert all(f"{tick:e}"[0] in "125" for tick in axis.ticks)
    assert all(0 <= axis.at(value) <= 1 for value in values)


def test_bins_lose_nothing_and_the_tail_ends_with_none() -> None:
    buckets = results.Run(0, "a", "steady", {"histograms": {"x": histogram(3.0)}}).buckets("x")
    bins = charts.binned(buckets, plot.logarithmic("ms", [upper for upper, _ in buckets]))
    assert sum(share or 0 for _, share in bins) == pytest.approx(1)
    peak = max(bins, key=lambda bin: bin[1] or 0)
    assert 2.4 < peak[0] < 3.3
    shares = [share or 0 for _, share in bins]
    top = shares.index(max(shares))
    # Buckets do not fit into the bins, and still draw one hill and no comb.
    assert shares[: top + 1] == sorted(shares[: top + 1]) and shares[top:] == sorted(shares[top:], reverse=True)
    tail = charts.slower(buckets)
    assert tail[0][1] == 1 and tail[-1] == (buckets[-1][0], 0)


def test_long_series_keep_their_peaks() -> None:
    points: list[plot.Point] = [(n, 1000.0 if n == 777 else 1.0) for n in range(10_000)]
    thin = plot.thin(points)
    assert len(thin) <= plot.MOST_POINTS and (777, 1000.0) in thin
    assert [at for at, _ in thin] == sorted(at for at, _ in thin)


def test_a_gap_in_a_series_is_a_gap_in_its_line() -> None:
    axis = plot.linear("x", [0, 4])
    line = plot.Line(0, "a", [(0, 1), (1, 2), (2, None), (3, 1), (4, 1)])
    path = re.search(r'd="(M[^"]*)" class="line"', plot.draw(line, 0, 1, axis, axis, False))
    assert path and re.sub(r"[\d. ]", "", path[1]) == "MLML"


def test_thirty_runs_look_each_their_own_way() -> None:
    assert len({plot.sample(number) for number in range(30)}) == 30
    assert len({(n % plot.COLOURS, n % len(plot.DASHES)) for n in range(30)}) == 30


def colours(name: str) -> tuple[str, str]:
    found = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\)", STYLE)
    assert found
    return found[1], found[2]


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_told_from_the_ground_and_from_each_other(scheme: int) -> None:
    ground = colours("ground")[scheme]
    runs = [colours(f"s{n}")[scheme] for n in range(plot.COLOURS)]
    # 4.5, not the 3 that lines need: the name at a breaking point is written in them.
    assert all(contrast(ground, colour) >= 4.5 for colour in runs)
    assert len(set(runs)) == plot.COLOURS
    for one, other in combinations(range(plot.COLOURS), 2):
        assert plot.DASHES[one % len(plot.DASHES)] != plot.DASHES[other % len(plot.DASHES)] or {one, other} == {0, 5}
