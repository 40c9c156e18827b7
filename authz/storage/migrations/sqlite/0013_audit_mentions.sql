-- Whom the entries of the index name, in few rows that are written in the order of the log, where each entry used to
-- meet the page of its patient, its user, its client and its grant in an index of its own. A page holds the mentions of
-- the entries that were written together; pages of 64 become a volume, which has them sorted into parts, so that a
-- search reads one part of each. Only entries of one block, sequences with one quotient by 65536, share either.
CREATE TABLE audit_page (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    chain    TEXT    NOT NULL,
    block    INTEGER NOT NULL,
    volume   INTEGER,          -- the volume into which it is being bound
    entries  INTEGER NOT NULL,
    earliest INTEGER NOT NULL, -- of its entries, milliseconds since 1970
    latest   INTEGER NOT NULL,
    mentions BLOB    NOT NULL
);
CREATE INDEX audit_page_unbound ON audit_page (chain, block, id) WHERE volume IS NULL;
CREATE INDEX audit_page_bound ON audit_page (volume) WHERE volume IS NOT NULL;
CREATE INDEX audit_page_time ON audit_page (latest);
CREATE TABLE audit_volume (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    chain    TEXT    NOT NULL,
    block    INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL,
    parts    INTEGER NOT NULL, -- how far they are written, and when they go how many are left
    is_whole INTEGER NOT NULL
);
CREATE INDEX audit_volume_time ON audit_volume (latest);
CREATE INDEX audit_volume_begun ON audit_volume (id) WHERE is_whole = 0;
CREATE TABLE audit_volume_part (
    part     INTEGER NOT NULL,
    volume   INTEGER NOT NULL,
    mentions BLOB    NOT NULL,
    PRIMARY KEY (part, volume)
) WITHOUT ROWID;

DROP INDEX audit_entry_patient;
DROP INDEX audit_entry_person;
DROP INDEX audit_entry_client;
DROP INDEX audit_entry_grant;

-- How far the follower has read each chain into pages. Entries that are there already are in none: the follower reads the
-- log from its beginning, adds their mentions, and leaves them as they are.
CREATE TABLE audit_page_place (
    chain    TEXT    PRIMARY KEY,
    sequence INTEGER NOT NULL
) WITHOUT ROWID;
DELETE FROM audit_place WHERE follower = 'index';

-- A process of an older program that still has this file open must not add entries that no search would find.
CREATE TRIGGER audit_place_is_of_no_index BEFORE INSERT ON audit_place
WHEN NEW.follower = 'index'
BEGIN SELECT RAISE(ABORT, 'this program is older than its store: start the newer one'); END;

-- The place of every follower.
CREATE VIEW every_audit_place AS
    SELECT follower, chain, sequence FROM audit_place
    UNION ALL
    SELECT 'index', chain, sequence FROM audit_page_place;
