-- Times are seconds since 1970. Identifiers of secrets are SHA-256 digests in base64url; the secrets are not here.

CREATE TABLE claim (
    namespace  TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX claim_expires ON claim (expires_at);

CREATE TABLE counter (
    key            TEXT    NOT NULL,
    window_seconds INTEGER NOT NULL,
    period         INTEGER NOT NULL,
    value          INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    PRIMARY KEY (key, window_seconds, period)
) WITHOUT ROWID;
CREATE INDEX counter_expires ON counter (expires_at);

CREATE TABLE pushed_request (
    id         TEXT    PRIMARY KEY,
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pushed_request_expires ON pushed_request (expires_at);

CREATE TABLE interaction (
    id         TEXT    PRIMARY KEY,
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX interaction_expires ON interaction (expires_at);

CREATE TABLE browser_session (
    id         TEXT    PRIMARY KEY,
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX browser_session_expires ON browser_session (expires_at);

CREATE TABLE grant_record (
    id         TEXT    PRIMARY KEY,
    client_id  TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    record     BLOB    NOT NULL,
    revoked_at INTEGER,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX grant_record_expires ON grant_record (expires_at);
CREATE INDEX grant_record_client ON grant_record (client_id);
CREATE INDEX grant_record_subject ON grant_record (subject);

-- A code that was used stays as long as its grant, to tell a replay from a code that never was.
CREATE TABLE authorization_code (
    id         TEXT    PRIMARY KEY,
    grant_id   TEXT    NOT NULL REFERENCES grant_record (id) ON DELETE CASCADE,
    record     BLOB    NOT NULL,
    uses       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX authorization_code_expires ON authorization_code (expires_at) WHERE uses = 0;
CREATE INDEX authorization_code_grant ON authorization_code (grant_id);

CREATE TABLE refresh_token (
    id         TEXT    PRIMARY KEY,
    grant_id   TEXT    NOT NULL REFERENCES grant_record (id) ON DELETE CASCADE,
    record     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX refresh_token_expires ON refresh_token (expires_at);
CREATE INDEX refresh_token_grant ON refresh_token (grant_id);

CREATE TABLE revocation (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    subject    TEXT    NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL
);
CREATE INDEX revocation_expires ON revocation (expires_at);

CREATE TABLE signing_key (
    kid          TEXT    PRIMARY KEY,
    algorithm    TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('announced', 'active', 'retired', 'removed')),
    encrypted    BLOB    NOT NULL,
    public_jwk   BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    activates_at INTEGER NOT NULL,
    retires_at   INTEGER NOT NULL,
    removes_at   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    previous BLOB    NOT NULL,
    digest   BLOB    NOT NULL,
    line     BLOB    NOT NULL
);
CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are never changed'); END;
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are never removed'); END;

-- The newest record, kept apart so that a log cut off at its end is found.
CREATE TABLE audit_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,
    digest   BLOB    NOT NULL
);

-- Written by every readiness check: a disk that is full or read-only is found before a request finds it.
CREATE TABLE pulse (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    beats INTEGER NOT NULL
);
INSERT INTO pulse VALUES (1, 0);
