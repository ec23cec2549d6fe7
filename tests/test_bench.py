"""The table that scripts/bench makes, and what it takes from scripts/load.py; the peers themselves are not run here."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.loads import bench, peers
from scripts.loads.bench_table import BASELINE, CLOSE, OPEN, OURS, WIDTH, NoTable, bars, medians, place, table
from scripts.loads.launch import LoadError
from tests.load_results import scenario

ROOT = Path(__file__).parents[1]
MACHINE = {"cpu": "A CPU", "cores": 2, "kernel": "Linux 6", "python": "3.11.7"}


def made(**more: Any) -> dict[str, Any]:
    """Return a bench of three rounds, in one of which everything was disturbed."""
    runs = [
        {"server": server, "round": number, "measures": {"cpuPaced": cost * noise, "latency": cost / 5, "share": 99.6}}
        for number, noise in enumerate((1, 1, 9), 1)
        for server, cost in ((OURS, 40.0), (BASELINE, 100.0), ("ai-sdk-6", 150.0))
    ]
    runs[0]["measures"] |= {"held": 1200, "limit": 1}
    runs[1]["measures"]["held"] = 600
    told = {"date": "2026-11-23T04:00:00+00:00", "machine": MACHINE, "quick": False, "pinned": True}
    titles = {name: peer.title for name, peer in peers.PEERS.items()}
    versions = {"Python 3.11.7": {"chatstream": "0.1.0", "uvloop": "0.23.0"}}
    lists = {"skipped": {"nginx": "there is none"}, "failed": {}, "runs": runs}
    return {"chatstreamBench": 1, **told, "titles": titles, "versions": versions, **lists, **more}


def test_the_table_tells_medians_as_parts_of_the_baseline() -> None:
    rows = [line for line in table(made()).splitlines() if line.startswith("|")]
    assert rows == [
        "| hono + anthropic = 1 | CPU a delta, paced | added latency p99, paced | delivered in time, paced"
        " | answers held at once |",
        "| --- | --: | --: | --: | --: |",
        "| **chatstream** | **0.40** | **0.40** | **100%** | **2.00** |",
        "| hono + anthropic | 1.00 | 1.00 | 100% | 1.00 |",
        "| AI SDK 6 | 1.50 | 1.50 | 100% |  |",
    ]


def test_the_table_tells_where_it_comes_from_and_what_is_not_in_it() -> None:
    notes = table(made(failed={"ai-sdk-6": "it did not answer"})).rpartition("\n\n")[2]
    assert "2026-11-23, medians of 3 rounds, on A CPU, 2 cores, Linux 6." in notes
    assert "100 us, 20 ms, 600 answers." in notes and "chatstream 0.1.0, uvloop 0.23.0." in notes
    assert "Without nginx, as a proxy: there is none.\nWithout AI SDK 6: it did not answer." in notes
    assert "ai-sdk-6" not in medians(made(failed={"ai-sdk-6": "it did not answer"}))
    assert "not the server: chatstream." in notes
    assert "nothing pinned" in table(made(pinned=False)) and "noisy" in table(made(quick=True))


def test_without_the_baseline_there_is_no_table() -> None:
    with pytest.raises(NoTable, match="hono"):
        table(made(failed={BASELINE: "it did not answer"}))


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    _, one, half, least, _ = bars({"one": 8.0, "a half": 4.0, "least": 0.001}).splitlines()
    assert [line.count("█") for line in (one, half, least)] == [WIDTH, WIDTH // 2, 0]
    assert one.startswith("one     █") and one.endswith(" 8.0") and least == "least   ▏ 0.00"


def test_the_table_stands_between_the_marks_and_nothing_else_is_touched() -> None:
    readme = (ROOT / "README.md").read_text()
    before, after = readme.partition(OPEN)[0], readme.partition(CLOSE)[2]
    first = place(readme, "FIRST \\1")
    assert first == f"{before}{OPEN}\n\nFIRST \\1\n\n{CLOSE}{after}"
    assert place(first, "SECOND") == place(readme, "SECOND")
    with pytest.raises(NoTable, match="<!-- bench -->"):
        place("# A README\n", "FIRST")


def test_every_peer_is_of_one_exact_version_and_of_no_registry() -> None:
    pins = (peers.APPS / "python" / "requirements.txt").read_text().split()
    assert pins and all(re.fullmatch(r"[\w-]+==\d+(\.\d+)+", pin) for pin in pins)
    packages = [json.loads(path.read_text())["dependencies"] for path in peers.APPS.glob("*/package.json")]
    assert len(packages) == 2
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pin) for pinned in packages for pin in pinned.values())
    texts = [path.read_text() for path in peers.APPS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert not any("https://" in text or "lockfileVersion" in text for text in texts)


def test_what_a_server_lacks_is_said_with_what_to_do_about_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "WORK", tmp_path)
    monkeypatch.setattr(peers, "told", lambda *command: "20.20.2")
    assert "wants Node.js 22" in peers.missing(peers.PEERS["ai-sdk-7"])
    assert "--no-install" in peers.missing(peers.PEERS[BASELINE])
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / ".installed").touch()
    assert peers.missing(peers.PEERS[BASELINE]) == "" == peers.missing(peers.PEERS[OURS])
    monkeypatch.setattr(peers, "told", lambda *command: "")
    assert "`node` is missing" in peers.missing(peers.PEERS[BASELINE])


def test_measures_are_read_of_a_result_and_what_it_does_not_know_is_left_out(tmp_path: Path) -> None:
    paced, full, still, ramp = bench.steps(quick=False, number=1)
    known = scenario(server={"cpuUsPerDelta": 40.0, "rssMbStart": 90.0, "rssMbMost": 110.0}, load={"isLimit": True})
    held = [
        {"streams": count, "ok": count < 300, "share": 0.5, "cpu": 0.1, "latencyP99Ms": None} for count in (200, 300)
    ]
    result = tmp_path / "result.json"

    def read(step: bench.Step, told: dict[str, Any]) -> dict[str, float]:
        result.write_text(json.dumps({"scenarios": [told]}))
        return bench.read(step, result, tmp_path)

    # A tenth of a core for half of what 200 answers say at 50 a second.
    assert read(paced, known | {"steps": held}) == {"cpuPaced": 20.0, "share": 50.0, "limit": 1}
    assert read(full, known) == {"cpuFull": 40.0} and read(full, known | {"server": None}) == {}
    assert read(still, known) == {"memory": 100.0}
    assert read(ramp, known | {"steps": held}) == {"held": 200}
    with pytest.raises(LoadError, match="refused"):
        read(still, known | {"deltas": 0, "errors": {"refused": 3}})


def test_a_round_measures_this_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench, "CORES", [])
    monkeypatch.setattr(bench, "WORK", tmp_path)
    (tmp_path / "results").mkdir()
    (paced, *_) = bench.steps(quick=True, number=1)
    few = "ramp --rate 50 --step 5 --max-streams 5 --step-seconds 0.5"
    short = bench.Step("paced", tuple(few.split()), 0.5, paced.measures)
    monkeypatch.setattr(bench, "WARM", short)
    found = asyncio.run(bench.measured(OURS, 1, [short]))
    assert found.keys() == {"cold", "cpuPaced", "latency", "share", "limit"}
    assert all(value > 0 for measure, value in found.items() if measure != "limit")


def test_what_was_measured_before_an_interrupt_is_kept_and_no_readme_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measured(name: str, number: int, plan: list[bench.Step]) -> dict[str, float]:
        if name == "hono-openai":
            raise KeyboardInterrupt
        if name == "chatstream-chat":
            raise LoadError("it did not answer")
        return {"cpuPaced": 50.0}

    readme = tmp_path / "README.md"
    readme.write_text(f"{OPEN}\n{CLOSE}")
    for name, value in {
        "WORK": tmp_path,
        "ROOT": tmp_path,
        "CORES": [],
        "measured": measured,
        "missing": lambda peer: "",
        "prepare": lambda: None,
    }.items():
        monkeypatch.setattr(bench, name, value)
    assert bench.measure(bench.parse(["--quick"])) == 130
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [run["server"] for run in kept["runs"]] == [OURS, "chatstream-responses", BASELINE]
    assert kept["failed"] == {"chatstream-chat": "it did not answer"}
    assert "| hono + anthropic | 1.00 |" in capsys.readouterr().out
    assert readme.read_text() == f"{OPEN}\n{CLOSE}"


@pytest.mark.parametrize("arguments", [["--only", "rails"], ["--rounds", "99"]])
def test_options_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(arguments)
    assert "there are chatstream" in (told := capsys.readouterr().err) or "1 to 20" in told
