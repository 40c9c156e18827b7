-- The index of the audit log: one row for each record and patient whom it is about. It can be made anew from the log,
-- and its rows go by age (at is milliseconds since 1970).
CREATE TABLE audit_entry (
    chain    TEXT   COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    base     TEXT   COLLATE "C" NOT NULL,
    patient  TEXT   COLLATE "C" NOT NULL,
    person   TEXT   COLLATE "C" NOT NULL,
    client   TEXT   COLLATE "C" NOT NULL,
    grant_id TEXT   COLLATE "C" NOT NULL,
    kind     TEXT   COLLATE "C" NOT NULL,
    outcome  TEXT   COLLATE "C" NOT NULL,
    rule     TEXT   COLLATE "C" NOT NULL,
    purpose  TEXT   COLLATE "C" NOT NULL,
    types    TEXT   COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX audit_entry_record ON audit_entry (chain, sequence, base, patient);
CREATE INDEX audit_entry_time ON audit_entry (at);
CREATE INDEX audit_entry_patient ON audit_entry (patient, base, at) WHERE patient <> '';
CREATE INDEX audit_entry_person ON audit_entry (person, at) WHERE person <> '';
CREATE INDEX audit_entry_client ON audit_entry (client, at) WHERE client <> '';
CREATE INDEX audit_entry_grant ON audit_entry (grant_id, at) WHERE grant_id <> '';

-- How far the followers of each chain have read.
CREATE TABLE audit_place (
    follower TEXT   COLLATE "C" NOT NULL,
    chain    TEXT   COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (follower, chain)
);
