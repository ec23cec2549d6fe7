"""The tables of conversations and runs, and the numbered steps that bring those of an older version up to date."""

from __future__ import annotations

from .database import Schema

_TABLES = """
CREATE TABLE conversations (
    id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, leaf_id TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL, updated_at REAL NOT NULL
) STRICT;
CREATE INDEX conversations_newest ON conversations (owner, updated_at, id);

CREATE TABLE messages (
    number INTEGER PRIMARY KEY,   -- in the order of creation: a parent before its children
    id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    parent_id TEXT NOT NULL,      -- '' for a first message
    run_id TEXT NOT NULL,         -- '' for a user's
    created_at REAL NOT NULL, role TEXT NOT NULL,
    content TEXT NOT NULL         -- JSON
) STRICT;
CREATE INDEX messages_of ON messages (conversation_id);

CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    conversation_id TEXT REFERENCES conversations ON DELETE CASCADE,
    parent_id TEXT NOT NULL, message_id TEXT NOT NULL, turn_id TEXT,
    digest TEXT NOT NULL,         -- of the request that began it
    model TEXT NOT NULL, process TEXT NOT NULL, created_at REAL NOT NULL, ended_at REAL NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '', next_run_id TEXT NOT NULL DEFAULT '',
    request TEXT NOT NULL, ending TEXT NOT NULL DEFAULT '{}', approvals TEXT NOT NULL DEFAULT '[]',  -- JSON
    waits_until REAL,             -- when the first of the open approvals expires
    logged_since REAL             -- when it ended, for as long as its log is kept
) STRICT;
CREATE UNIQUE INDEX runs_of ON runs (conversation_id, turn_id);
CREATE INDEX runs_running ON runs (conversation_id, parent_id) WHERE outcome = '';
CREATE INDEX runs_waiting ON runs (waits_until) WHERE waits_until IS NOT NULL;
CREATE INDEX runs_logged ON runs (logged_since) WHERE logged_since IS NOT NULL;

CREATE TABLE texts (              -- what is searched: titles, and what messages say
    number INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    is_title INTEGER NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX texts_of ON texts (conversation_id);
CREATE VIRTUAL TABLE search USING fts5 (
    text, content = texts, content_rowid = number, columnsize = 0, prefix = '1 2'
);
CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN
    INSERT INTO search (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER texts_deleted AFTER DELETE ON texts BEGIN
    INSERT INTO search (search, rowid, text) VALUES ('delete', old.number, old.text);
END;
"""
_THREADS = """
ALTER TABLE runs ADD COLUMN thread_id TEXT NOT NULL DEFAULT '';  -- of a caller that keeps the conversation itself
ALTER TABLE runs ADD COLUMN watched_until REAL NOT NULL DEFAULT 0;  -- through a process that does not write it
ALTER TABLE runs ADD COLUMN stop_wanted INTEGER NOT NULL DEFAULT 0; -- by one of those
CREATE INDEX runs_of_thread ON runs (thread_id) WHERE thread_id <> '';
CREATE INDEX runs_of_turn ON runs (turn_id) WHERE thread_id <> '';
"""
_SETTINGS = """
ALTER TABLE conversations ADD COLUMN system TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN deleted_at REAL;
DROP INDEX conversations_newest;
CREATE INDEX conversations_listed ON conversations (owner, pinned, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;
"""
SCHEMA = Schema("conversations", [_TABLES, _THREADS, _SETTINGS])
