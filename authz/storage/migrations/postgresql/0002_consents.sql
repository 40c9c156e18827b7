-- Consents, version by version. Kept for good, like the audit log: what a patient had agreed to when a record was shown
-- is asked years later.
CREATE TABLE consent_version (
    sequence    BIGINT PRIMARY KEY,
    base        TEXT   COLLATE "C" NOT NULL,
    id          TEXT   COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL CHECK (version > 0),
    patient     TEXT   COLLATE "C" NOT NULL,
    status      TEXT   COLLATE "C" NOT NULL,
    resource    BYTEA  NOT NULL,
    recorded_at BIGINT NOT NULL,
    recorded_by TEXT   NOT NULL,
    grant_id    TEXT   COLLATE "C",
    UNIQUE (base, id, version)
);
CREATE INDEX consent_version_patient ON consent_version (base, patient);
CREATE INDEX consent_version_grant ON consent_version (grant_id) WHERE grant_id IS NOT NULL;
CREATE TRIGGER consent_version_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON consent_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
INSERT INTO numbering VALUES ('consent', 0);
