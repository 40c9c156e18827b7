-- How many provisions a consent has, so that what one patient has is counted without reading it. Whoever writes a
-- version says so. Where nobody did, as in what was written before, there are no more than braces in its text.
ALTER TABLE consent_version ADD COLUMN provisions BIGINT;
CREATE FUNCTION braces(resource bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT LENGTH(ENCODE(resource, 'escape')) - LENGTH(REPLACE(ENCODE(resource, 'escape'), '{', ''))
$$;
ALTER TABLE consent_newest ADD COLUMN provisions BIGINT NOT NULL DEFAULT 0;
UPDATE consent_newest SET provisions = braces(found.resource) FROM consent_version AS found
    WHERE found.base = consent_newest.base AND found.id = consent_newest.id AND found.version = consent_newest.version;
DROP INDEX consent_newest_patient;
CREATE INDEX consent_newest_patient ON consent_newest (base, patient, status, id) INCLUDE (provisions);
CREATE OR REPLACE FUNCTION note_newest() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO consent_newest VALUES (
        NEW.base, NEW.id, NEW.version, NEW.patient, NEW.status, COALESCE(NEW.provisions, braces(NEW.resource))
    ) ON CONFLICT (base, id) DO UPDATE SET
        version = excluded.version, patient = excluded.patient, status = excluded.status,
        provisions = excluded.provisions;
    RETURN NULL;
END $$;
