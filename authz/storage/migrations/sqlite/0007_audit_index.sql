-- The index of the audit log: one row for each record and patient whom it is about. It can be made anew from the log,
-- and its rows go by age (at is milliseconds since 1970).
CREATE TABLE audit_entry (
    chain    TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    base     TEXT    NOT NULL,
    patient  TEXT    NOT NULL,
    person   TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    grant_id TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    rule     TEXT    NOT NULL,
    purpose  TEXT    NOT NULL,
    types    TEXT    NOT NULL
);
CREATE UNIQUE INDEX audit_entry_record ON audit_entry (chain, sequence, base, patient);
CREATE INDEX audit_entry_time ON audit_entry (at);
CREATE INDEX audit_entry_patient ON audit_entry (patient, base, at) WHERE patient <> '';
CREATE INDEX audit_entry_person ON audit_entry (person, at) WHERE person <> '';
CREATE INDEX audit_entry_client ON audit_entry (client, at) WHERE client <> '';
CREATE INDEX audit_entry_grant ON audit_entry (grant_id, at) WHERE grant_id <> '';

-- How far the followers of each chain have read.
CREATE TABLE audit_place (
    follower TEXT    NOT NULL,
    chain    TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (follower, chain)
) WITHOUT ROWID;
