-- How often a rule was used by one principal in the time that began with its first use. key is a digest.
CREATE TABLE rate (
    key        BLOB    PRIMARY KEY,
    used       INTEGER NOT NULL CHECK (used > 0),
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX rate_expires ON rate (expires_at);

-- Emergency access (break-glass): one row for each time that a chart was opened. It stays for its review, long after
-- it ended; the audit log keeps start and end for good.
CREATE TABLE emergency (
    id          TEXT    PRIMARY KEY,
    rule        TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,
    client_id   TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    patient     TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ends_at     INTEGER NOT NULL,
    end_noted   INTEGER NOT NULL DEFAULT 0,
    reviewed_at INTEGER,
    reviewed_by TEXT,
    review      TEXT,
    expires_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX emergency_principal ON emergency (issuer, client_id, subject, ends_at);
CREATE INDEX emergency_ended ON emergency (ends_at) WHERE end_noted = 0;
CREATE INDEX emergency_expires ON emergency (expires_at);

-- The outbox. No expiry of its own in housekeeping: whoever delivers ends what is too old, and says so.
CREATE TABLE notification (
    id         TEXT    PRIMARY KEY,
    receiver   TEXT    NOT NULL,
    content    BLOB    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX notification_due ON notification (due_at);
