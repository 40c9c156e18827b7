-- Clients of the registry, and the status of clients of gateway.yaml that were suspended.
CREATE TABLE registration (
    client_id  TEXT    PRIMARY KEY,
    version    INTEGER NOT NULL,
    sequence   INTEGER NOT NULL UNIQUE,
    record     BLOB    NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;
CREATE INDEX registration_expires ON registration (expires_at) WHERE expires_at IS NOT NULL;

-- Who did what to a client, when and why. Kept for good, like the audit log. Its numbers order all changes: with
-- AUTOINCREMENT none is given twice, whatever rows are removed elsewhere.
CREATE TABLE registration_change (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id TEXT    NOT NULL,
    record    BLOB    NOT NULL
);
CREATE INDEX registration_change_client ON registration_change (client_id, sequence);
CREATE TRIGGER registration_change_is_append_only_update BEFORE UPDATE ON registration_change
BEGIN SELECT RAISE(ABORT, 'the history of a client is never changed'); END;
CREATE TRIGGER registration_change_is_append_only_delete BEFORE DELETE ON registration_change
BEGIN SELECT RAISE(ABORT, 'the history of a client is never removed'); END;

CREATE TABLE initial_access_token (
    id         TEXT    PRIMARY KEY,
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX initial_access_token_expires ON initial_access_token (expires_at);
