-- Signals of unusual access. They stay for their review, and go with the entries that they are about.
CREATE TABLE audit_signal (
    id          TEXT PRIMARY KEY,
    rule        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    base        TEXT NOT NULL,
    patient     TEXT NOT NULL,
    person      TEXT NOT NULL,
    client      TEXT NOT NULL,
    words       TEXT NOT NULL,
    records     BLOB NOT NULL,
    count       INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    reviewed_at INTEGER,
    reviewed_by TEXT,
    review      TEXT,
    noted       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX audit_signal_time ON audit_signal (at);
CREATE INDEX audit_signal_open ON audit_signal (at) WHERE reviewed_at IS NULL;
CREATE INDEX audit_signal_unnoted ON audit_signal (at) WHERE noted = 0;
CREATE INDEX audit_signal_expires ON audit_signal (expires_at);
