-- Which version of each consent is the newest, so that the consents of a patient in force are found without a look at
-- those that are over. It is made from consent_version alone, by a trigger, whoever writes there.
CREATE TABLE consent_newest (
    base    TEXT   COLLATE "C" NOT NULL,
    id      TEXT   COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    patient TEXT   COLLATE "C" NOT NULL,
    status  TEXT   COLLATE "C" NOT NULL,
    PRIMARY KEY (base, id)
);
CREATE INDEX consent_newest_patient ON consent_newest (base, patient, status, id);
INSERT INTO consent_newest SELECT DISTINCT ON (base, id) base, id, version, patient, status FROM consent_version
    ORDER BY base, id, version DESC;
-- It acts with the owner's right: the gateway's role writes nothing here by itself.
CREATE FUNCTION note_newest() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO consent_newest VALUES (NEW.base, NEW.id, NEW.version, NEW.patient, NEW.status)
        ON CONFLICT (base, id) DO UPDATE
        SET version = excluded.version, patient = excluded.patient, status = excluded.status;
    RETURN NULL;
END $$;
CREATE TRIGGER consent_version_is_newest AFTER INSERT ON consent_version
    FOR EACH ROW EXECUTE FUNCTION note_newest();
