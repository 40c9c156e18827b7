-- By which number the newest version of a consent was written, so that the consents of a patient are had page by page:
-- those in force first, the newest before the others.
ALTER TABLE consent_newest ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0;
UPDATE consent_newest SET sequence = found.sequence FROM consent_version AS found
    WHERE found.base = consent_newest.base AND found.id = consent_newest.id AND found.version = consent_newest.version;
CREATE INDEX consent_newest_page ON consent_newest (base, patient, ((status = 'active')::int), sequence);
CREATE OR REPLACE FUNCTION note_newest() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO consent_newest VALUES (
        NEW.base, NEW.id, NEW.version, NEW.patient, NEW.status, COALESCE(NEW.provisions, braces(NEW.resource)),
        NEW.sequence
    ) ON CONFLICT (base, id) DO UPDATE SET
        version = excluded.version, patient = excluded.patient, status = excluded.status,
        provisions = excluded.provisions, sequence = excluded.sequence;
    RETURN NULL;
END $$;
