-- Times are seconds since 1970. Identifiers of secrets are SHA-256 digests in base64url; the secrets are not here.
-- The tables are those of SQLite. COLLATE "C": ids are compared and ordered byte for byte.

CREATE TABLE claim (
    namespace  TEXT   COLLATE "C" NOT NULL,
    key        BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX claim_expires ON claim (expires_at);

-- key holds what somebody typed, in UTF-8: a text could not hold a zero byte.
CREATE TABLE counter (
    key            BYTEA  NOT NULL,
    window_seconds BIGINT NOT NULL,
    period         BIGINT NOT NULL,
    value          BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    PRIMARY KEY (key, window_seconds, period)
);
CREATE INDEX counter_expires ON counter (expires_at);

CREATE TABLE pushed_request (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    record     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX pushed_request_expires ON pushed_request (expires_at);

-- A launch from a record system, until the app that it is for uses it.
CREATE TABLE launch (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    client_id  TEXT   COLLATE "C" NOT NULL,
    record     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX launch_expires ON launch (expires_at);

CREATE TABLE interaction (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    record     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX interaction_expires ON interaction (expires_at);

CREATE TABLE browser_session (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    record     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX browser_session_expires ON browser_session (expires_at);

CREATE TABLE grant_record (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    client_id  TEXT   COLLATE "C" NOT NULL,
    subject    TEXT   COLLATE "C" NOT NULL,
    record     BYTEA  NOT NULL,
    revoked_at BIGINT,
    expires_at BIGINT NOT NULL
);
CREATE INDEX grant_record_expires ON grant_record (expires_at);
CREATE INDEX grant_record_client ON grant_record (client_id);
CREATE INDEX grant_record_subject ON grant_record (subject);

-- A code that was used stays as long as its grant, to tell a replay from a code that never was.
CREATE TABLE authorization_code (
    id         TEXT    COLLATE "C" PRIMARY KEY,
    grant_id   TEXT    COLLATE "C" NOT NULL REFERENCES grant_record (id) ON DELETE CASCADE,
    record     BYTEA   NOT NULL,
    uses       INTEGER NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX authorization_code_expires ON authorization_code (expires_at) WHERE uses = 0;
CREATE INDEX authorization_code_grant ON authorization_code (grant_id);

-- A refresh token that was replaced stays until its grant ends, to tell a late use from one that never was.
CREATE TABLE refresh_token (
    id          TEXT   COLLATE "C" PRIMARY KEY,
    grant_id    TEXT   COLLATE "C" NOT NULL REFERENCES grant_record (id) ON DELETE CASCADE,
    record      BYTEA  NOT NULL,
    expires_at  BIGINT NOT NULL,
    replaced_at BIGINT
);
CREATE INDEX refresh_token_expires ON refresh_token (expires_at);
CREATE INDEX refresh_token_grant ON refresh_token (grant_id);

-- Numbers in the order of commits: the row is locked from the taking of a number to the end of its transaction. A
-- sequence would give a lower number to a transaction that is seen later, and caches would miss it.
CREATE TABLE numbering (
    name  TEXT   COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO numbering VALUES ('revocation', 0), ('registration', 0);

-- What one transaction revoked has one number.
CREATE TABLE revocation (
    subject    TEXT   COLLATE "C" PRIMARY KEY,
    sequence   BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX revocation_sequence ON revocation (sequence);
CREATE INDEX revocation_expires ON revocation (expires_at);

CREATE TABLE signing_key (
    kid          TEXT   COLLATE "C" PRIMARY KEY,
    algorithm    TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('announced', 'active', 'retired', 'removed')),
    encrypted    BYTEA  NOT NULL,
    public_jwk   BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    activates_at BIGINT NOT NULL,
    retires_at   BIGINT NOT NULL,
    removes_at   BIGINT NOT NULL
);

CREATE TABLE secret (
    name  TEXT  COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);

-- Clients of the registry, and the status of clients of gateway.yaml that were suspended.
CREATE TABLE registration (
    client_id  TEXT   COLLATE "C" PRIMARY KEY,
    version    BIGINT NOT NULL,
    sequence   BIGINT NOT NULL UNIQUE,
    record     BYTEA  NOT NULL,
    expires_at BIGINT
);
CREATE INDEX registration_expires ON registration (expires_at) WHERE expires_at IS NOT NULL;

-- Who did what to a client, when and why. Kept for good, like the audit log. Its numbers order all changes.
CREATE TABLE registration_change (
    sequence  BIGINT PRIMARY KEY,
    client_id TEXT   COLLATE "C" NOT NULL,
    record    BYTEA  NOT NULL
);
CREATE INDEX registration_change_client ON registration_change (client_id, sequence);

CREATE TABLE initial_access_token (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    uses_left  BIGINT NOT NULL CHECK (uses_left >= 0),
    record     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX initial_access_token_expires ON initial_access_token (expires_at);

-- How often a rule was used by one principal in the time that began with its first use. key is a digest.
CREATE TABLE rate (
    key        BYTEA  PRIMARY KEY,
    used       BIGINT NOT NULL CHECK (used > 0),
    expires_at BIGINT NOT NULL
);
CREATE INDEX rate_expires ON rate (expires_at);

-- Emergency access (break-glass): one row for each time that a chart was opened. It stays for its review, long after
-- it ended; the audit log keeps start and end for good.
CREATE TABLE emergency (
    id          TEXT    COLLATE "C" PRIMARY KEY,
    rule        TEXT    COLLATE "C" NOT NULL,
    issuer      TEXT    COLLATE "C" NOT NULL,
    client_id   TEXT    COLLATE "C" NOT NULL,
    subject     TEXT    COLLATE "C" NOT NULL,
    patient     TEXT    COLLATE "C" NOT NULL,
    reason      TEXT    NOT NULL,
    started_at  BIGINT  NOT NULL,
    ends_at     BIGINT  NOT NULL,
    end_noted   INTEGER NOT NULL DEFAULT 0,
    reviewed_at BIGINT,
    reviewed_by TEXT,
    review      TEXT,
    expires_at  BIGINT  NOT NULL
);
CREATE INDEX emergency_principal ON emergency (issuer, client_id, subject, ends_at);
CREATE INDEX emergency_ended ON emergency (ends_at) WHERE end_noted = 0;
CREATE INDEX emergency_expires ON emergency (expires_at);

-- The outbox. No expiry of its own in housekeeping: whoever delivers ends what is too old, and says so.
CREATE TABLE notification (
    id         TEXT    COLLATE "C" PRIMARY KEY,
    receiver   TEXT    NOT NULL,
    content    BYTEA   NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX notification_due ON notification (due_at);
CREATE INDEX notification_expires ON notification (expires_at);

CREATE TABLE audit (
    sequence BIGINT PRIMARY KEY,
    previous BYTEA  NOT NULL,
    digest   BYTEA  NOT NULL,
    line     BYTEA  NOT NULL
);

-- The newest record, kept apart so that a log cut off at its end is found. Whoever appends locks it: sequence 0 is
-- the log without a record.
CREATE TABLE audit_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    sequence BIGINT  NOT NULL,
    digest   BYTEA   NOT NULL
);
INSERT INTO audit_head VALUES (1, 0, '');

-- Written by every readiness check: a server that is full or read-only is found before a request finds it.
CREATE TABLE pulse (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    beats BIGINT  NOT NULL
);
INSERT INTO pulse VALUES (1, 0);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of % are never changed and never removed', TG_TABLE_NAME; END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER registration_change_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registration_change
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What nodes keep in memory is told to them when it changes; who does not hear it reads it twice a second anyway.
CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('securus', TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER revocation_is_told AFTER INSERT OR UPDATE ON revocation
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER registration_is_told AFTER INSERT OR UPDATE ON registration
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
CREATE TRIGGER signing_key_is_told AFTER INSERT OR UPDATE OR DELETE ON signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();
