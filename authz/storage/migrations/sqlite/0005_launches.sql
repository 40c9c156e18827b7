-- A launch from a record system, until the app that it is for uses it.
CREATE TABLE launch (
    id         TEXT    PRIMARY KEY,
    client_id  TEXT    NOT NULL,
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX launch_expires ON launch (expires_at);
