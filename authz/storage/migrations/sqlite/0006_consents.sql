-- Consents, version by version. Kept for good, like the audit log: what a patient had agreed to when a record was shown
-- is asked years later. With AUTOINCREMENT no number is given twice.
CREATE TABLE consent_version (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    base        TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    patient     TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    resource    BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,
    recorded_by TEXT    NOT NULL,
    grant_id    TEXT,
    UNIQUE (base, id, version)
);
CREATE INDEX consent_version_patient ON consent_version (base, patient);
CREATE INDEX consent_version_grant ON consent_version (grant_id) WHERE grant_id IS NOT NULL;
CREATE TRIGGER consent_version_is_append_only_update BEFORE UPDATE ON consent_version
BEGIN SELECT RAISE(ABORT, 'a version of a consent is never changed'); END;
CREATE TRIGGER consent_version_is_append_only_delete BEFORE DELETE ON consent_version
BEGIN SELECT RAISE(ABORT, 'a version of a consent is never removed'); END;
