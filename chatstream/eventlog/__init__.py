"""Event logs: what each run did, event by event, for a viewer that comes late or comes back, here or elsewhere."""

from __future__ import annotations

from .base import Entry, EventLog, Kept
from .memory import MemoryLog
from .sqlite import SqliteLog

__all__ = ["Entry", "EventLog", "Kept", "MemoryLog", "SqliteLog"]
