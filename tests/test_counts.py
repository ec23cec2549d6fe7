"""What a delta costs does not rise unseen: the counts of scripts/counts.py against those that are committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import counts
import pytest

ROOT = Path(__file__).parents[1]
OF_ALL = {"instructions", "allocations", "bytes"}
KNOWN = json.loads(counts.FILE.read_text())


def test_a_delta_costs_no_more_than_the_committed_counts() -> None:
    if missing := counts.missing_packages():
        hint = f"nothing is counted without {' and '.join(missing)}: apt-get install {' '.join(missing)}"
        pytest.fail(hint) if os.environ.get("CI") == "true" else pytest.skip(hint)
    counted = subprocess.run(
        [sys.executable, counts.__file__],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert counted.returncode == 0, counted.stdout + counted.stderr
    if counts.build() not in KNOWN:
        pytest.skip(counted.stdout.splitlines()[-1])


@pytest.mark.parametrize("build", KNOWN)
def test_each_build_has_a_figure_for_all_that_is_counted(build: str) -> None:
    calls = KNOWN[build][counts.CALLS]

    assert KNOWN[build].keys() == {*counts.CASES, counts.SERVER, counts.CALLS}
    assert all(counted.keys() == OF_ALL for counted in KNOWN[build].values() if counted is not calls)
    assert calls["all but futex"] > 0


def test_a_rise_of_more_than_a_tenth_is_told_with_both_figures() -> None:
    before = {"a": {"bytes": 100.0, "instructions": 2000.0}, counts.CALLS: {"futex": 1.0, "read": 1.0}}
    now = {"a": {"bytes": 112.0, "instructions": 2200.0}, counts.CALLS: {"futex": 6.0, "read": 2.0}}
    compared = list(counts.compare(now, before))

    assert [has_risen for _, has_risen in compared] == [True, False, False, True]
    assert compared[0][0].split() == ["a", "bytes", "112.0", "a", "delta,", "100.0", "before:", "+12.0%"]


def test_of_another_build_only_what_does_not_depend_on_it_is_compared() -> None:
    known = {"here": {"a": {"bytes": 1.0, "instructions": 2.0, "allocations": 3.0}, "b": {"read": 4.0}}}

    assert counts.committed(known, "here") == known["here"]
    assert counts.committed(known, "elsewhere") == {"a": {"bytes": 1.0}, "b": {"read": 4.0}}
    assert counts.committed({}, "elsewhere") == {}


def test_what_rose_fails_until_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(size: float, *options: str) -> None:
        monkeypatch.setattr(counts, "count", lambda only, folder: {"a": {"bytes": size}})
        monkeypatch.setattr(sys, "argv", ["counts.py", *options])
        counts.main()

    monkeypatch.setattr(counts, "FILE", tmp_path / "counts.json")
    monkeypatch.setattr(counts, "missing_packages", list)
    run(100.0)
    assert counts.build() in capsys.readouterr().out
    run(100.0, "--update")
    with pytest.raises(SystemExit, match=r"112\.0 a delta, 100\.0 before: \+12\.0%\n.*--update"):
        run(112.0)
    run(112.0, "--update")
    run(112.0)
