-- Which version of each consent is the newest, so that the consents of a patient in force are found without a look at
-- those that are over. It is made from consent_version alone, by a trigger, whoever writes there.
CREATE TABLE consent_newest (
    base    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    patient TEXT    NOT NULL,
    status  TEXT    NOT NULL,
    PRIMARY KEY (base, id)
) WITHOUT ROWID;
CREATE INDEX consent_newest_patient ON consent_newest (base, patient, status, id);
INSERT INTO consent_newest SELECT base, id, version, patient, status FROM consent_version AS found
    WHERE version = (SELECT MAX(version) FROM consent_version WHERE base = found.base AND id = found.id);
CREATE TRIGGER consent_version_is_newest AFTER INSERT ON consent_version
BEGIN
    INSERT INTO consent_newest VALUES (NEW.base, NEW.id, NEW.version, NEW.patient, NEW.status)
        ON CONFLICT (base, id) DO UPDATE SET version = NEW.version, patient = NEW.patient, status = NEW.status;
END;
