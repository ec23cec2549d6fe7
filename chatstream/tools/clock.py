"""`current_time`: the time in a time zone of the IANA database, which Python reads from the system or from tzdata."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from ..errors import ToolError
from .base import tool


@tool(read_only=True)
def current_time(timezone: str = "UTC") -> dict[str, str]:
    """Tell the current date and time in a time zone.

    Args:
        timezone: IANA name of the time zone, such as "Europe/Berlin" or "America/New_York".
    """
    return describe(datetime.now(find_zone(timezone)), timezone)


def describe(moment: datetime, timezone: str) -> dict[str, str]:
    """Return `{"time": ISO 8601 in seconds, "weekday", "timezone", "utcOffset": "+02:00"}` of an aware moment."""
    return {
        "time": moment.isoformat(timespec="seconds"),
        "weekday": moment.strftime("%A"),
        "timezone": timezone,
        "utcOffset": moment.isoformat(timespec="seconds")[19:],
    }


def find_zone(name: str) -> tzinfo:
    """Return the time zone; raises ToolError with the closest names, or with the news that there is no database."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; "../x"; a folder such as "America"
        known = {zone.lower(): zone for zone in sorted(available_timezones())}
    if not known:
        raise ToolError("this server has no time zone database (the package tzdata brings it): only UTC is known")
    wanted = name.strip().lower().replace(" ", "_")
    close = [zone for zone in known if wanted and zone.split("/")[-1] == wanted] + get_close_matches(wanted, known, 5)
    names = ", ".join(known[zone] for zone in dict.fromkeys(close)) or "Europe/Berlin, America/New_York, UTC"
    raise ToolError(f"there is no time zone {name[:64]!r}; try one like: {names}")
