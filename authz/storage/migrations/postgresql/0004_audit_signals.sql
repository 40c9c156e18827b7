-- Signals of unusual access. They stay for their review, and go with the entries that they are about.
CREATE TABLE audit_signal (
    id          TEXT   COLLATE "C" PRIMARY KEY,
    rule        TEXT   COLLATE "C" NOT NULL,
    kind        TEXT   COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    base        TEXT   COLLATE "C" NOT NULL,
    patient     TEXT   COLLATE "C" NOT NULL,
    person      TEXT   COLLATE "C" NOT NULL,
    client      TEXT   COLLATE "C" NOT NULL,
    words       TEXT   COLLATE "C" NOT NULL,
    records     BYTEA NOT NULL,
    count       BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    reviewed_at BIGINT,
    reviewed_by TEXT   COLLATE "C",
    review      TEXT   COLLATE "C",
    noted       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX audit_signal_time ON audit_signal (at);
CREATE INDEX audit_signal_open ON audit_signal (at) WHERE reviewed_at IS NULL;
CREATE INDEX audit_signal_unnoted ON audit_signal (at) WHERE noted = 0;
CREATE INDEX audit_signal_expires ON audit_signal (expires_at);
