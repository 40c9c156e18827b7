-- The index of the audit log in few rows: a sheet holds the entries of some records that follow each other, packed, where
-- each entry was a row in three trees. Mentions need no order within a page or a part any more. The index is made anew:
-- the follower reads the log from its beginning.
DROP VIEW every_audit_place;
DROP TRIGGER audit_place_is_of_no_index;
DROP TABLE audit_page_place;
DROP TABLE audit_volume_part;
DROP TABLE audit_volume;
DROP TABLE audit_page;
DROP TABLE audit_entry;

CREATE TABLE audit_sheet (
    chain    TEXT    NOT NULL,
    first    INTEGER NOT NULL, -- sequence of its first record
    last     INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    earliest INTEGER NOT NULL, -- of its entries, milliseconds since 1970
    latest   INTEGER NOT NULL,
    entries  BLOB    NOT NULL,
    PRIMARY KEY (chain, first)
);
CREATE INDEX audit_sheet_time ON audit_sheet (latest, chain, first);
CREATE INDEX audit_sheet_wide ON audit_sheet (latest) WHERE latest - earliest > 60000;

-- Whom entries name. A page holds the mentions of those that were written together; those of 8,192 entries become a volume, which
-- has them in parts, so that a search reads one part of each. Only entries of one block, sequences with one quotient by
-- 65536, share either.
CREATE TABLE audit_page (
    id       INTEGER PRIMARY KEY,
    chain    TEXT    NOT NULL,
    block    INTEGER NOT NULL,
    volume   INTEGER,          -- the volume into which it is being bound
    entries  INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL,
    mentions BLOB    NOT NULL
);
CREATE INDEX audit_page_unbound ON audit_page (chain, block, id, entries) WHERE volume IS NULL;
CREATE INDEX audit_page_bound ON audit_page (volume, id, entries) WHERE volume IS NOT NULL;
CREATE INDEX audit_page_time ON audit_page (latest);
CREATE TABLE audit_volume (
    id       INTEGER PRIMARY KEY,
    chain    TEXT    NOT NULL,
    block    INTEGER NOT NULL,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL,
    parts    INTEGER NOT NULL, -- how far they are written, and when they go how many are left
    state    INTEGER NOT NULL  -- 0: being bound, 1: it counts, and its pages go, 2: it counts and they are gone
);
CREATE INDEX audit_volume_time ON audit_volume (latest);
CREATE INDEX audit_volume_begun ON audit_volume (id) WHERE state < 2;
CREATE TABLE audit_volume_part (
    id       INTEGER PRIMARY KEY, -- 256 times the volume, and the part: volumes follow each other
    mentions BLOB    NOT NULL
);
