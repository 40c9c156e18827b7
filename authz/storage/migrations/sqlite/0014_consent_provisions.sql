-- How many provisions a consent has, so that what one patient has is counted without reading it. Whoever writes a
-- version says so. Where nobody did, as in what was written before, there are no more than braces in its text.
ALTER TABLE consent_version ADD COLUMN provisions INTEGER;
ALTER TABLE consent_newest ADD COLUMN provisions INTEGER NOT NULL DEFAULT 0;
UPDATE consent_newest SET provisions = (
    SELECT LENGTH(CAST(resource AS TEXT)) - LENGTH(REPLACE(CAST(resource AS TEXT), '{', '')) FROM consent_version AS found
    WHERE found.base = consent_newest.base AND found.id = consent_newest.id AND found.version = consent_newest.version
);
DROP INDEX consent_newest_patient;
CREATE INDEX consent_newest_patient ON consent_newest (base, patient, status, id, provisions);
DROP TRIGGER consent_version_is_newest;
CREATE TRIGGER consent_version_is_newest AFTER INSERT ON consent_version
BEGIN
    INSERT INTO consent_newest VALUES (
        NEW.base, NEW.id, NEW.version, NEW.patient, NEW.status,
        COALESCE(
            NEW.provisions,
            LENGTH(CAST(NEW.resource AS TEXT)) - LENGTH(REPLACE(CAST(NEW.resource AS TEXT), '{', ''))
        )
    ) ON CONFLICT (base, id) DO UPDATE SET
        version = excluded.version, patient = excluded.patient, status = excluded.status,
        provisions = excluded.provisions;
END;
