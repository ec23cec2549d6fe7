"""`current_time` tells the time of any zone, and helps with a zone that does not exist."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.errors import ToolError
from chatstream.tools import clock
from chatstream.tools.clock import current_time, describe, find_zone

MOMENT = datetime(2026, 3, 29, 0, 59, 59, 123456, UTC)

ZONES = [
    ("UTC", "2026-03-29T00:59:59+00:00", "Sunday", "+00:00"),
    ("Europe/Berlin", "2026-03-29T01:59:59+01:00", "Sunday", "+01:00"),
    ("Asia/Kathmandu", "2026-03-29T06:44:59+05:45", "Sunday", "+05:45"),
    ("America/New_York", "2026-03-28T20:59:59-04:00", "Saturday", "-04:00"),
]


@pytest.mark.parametrize(("zone", "time", "weekday", "offset"), ZONES)
def test_a_moment_is_told_in_a_time_zone(zone, time, weekday, offset):
    told = describe(MOMENT.astimezone(find_zone(zone)), zone)

    assert told == {"time": time, "weekday": weekday, "timezone": zone, "utcOffset": offset}


def test_the_time_is_now_and_in_utc_unless_a_zone_is_named():
    before = datetime.now(UTC).replace(microsecond=0)

    told = current_time()

    assert before <= datetime.fromisoformat(told["time"]) <= datetime.now(UTC)
    assert told["timezone"] == "UTC"


CLOSE = [
    ("Berlin", "Europe/Berlin"),
    ("new york", "America/New_York"),
    ("Europe/Berln", "Europe/Berlin"),
    ("europe/paris", "Europe/Paris"),
    ("America", "America/"),
    ("", "Europe/Berlin"),
    ("../../etc/passwd", "try one like"),
    ("/etc/passwd", "try one like"),
    ("a\0b", "try one like"),
    ("x" * 5000, "try one like"),
]


@pytest.mark.parametrize(("name", "hint"), CLOSE, ids=[repr(row[0][:20]) for row in CLOSE])
def test_an_unknown_zone_is_answered_with_close_ones(name, hint):
    with pytest.raises(ToolError, match=hint):
        find_zone(name)


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_a_tool_error(few_zones, name):
    with suppress(ToolError):
        find_zone(name)


@pytest.fixture(scope="module")
def few_zones():
    """Few zones: the list of all is read from hundreds of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "available_timezones", lambda: {"Europe/Berlin", "Asia/Tokyo"})
        yield


def test_a_missing_time_zone_database_is_named(monkeypatch):
    monkeypatch.setattr(clock, "available_timezones", set)

    with pytest.raises(ToolError, match=r"no time zone database.*tzdata"):
        find_zone("Europe/Nowhere")
    assert find_zone("utc") is UTC
