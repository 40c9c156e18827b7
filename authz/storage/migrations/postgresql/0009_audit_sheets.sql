-- The index of the audit log in few rows: a sheet holds the entries of some records that follow each other, packed, where
-- each entry was a row in seven trees. The index is made anew: the follower reads the log from its beginning.
DROP TABLE audit_entry;
DELETE FROM audit_place WHERE follower = 'index';

CREATE TABLE audit_sheet (
    chain    TEXT   COLLATE "C" NOT NULL,
    first    BIGINT NOT NULL, -- sequence of its first record
    last     BIGINT NOT NULL,
    count    BIGINT NOT NULL,
    earliest BIGINT NOT NULL, -- of its entries, milliseconds since 1970
    latest   BIGINT NOT NULL,
    entries  BYTEA  NOT NULL,
    PRIMARY KEY (chain, first)
);
CREATE INDEX audit_sheet_time ON audit_sheet (latest, chain, first);
CREATE INDEX audit_sheet_wide ON audit_sheet (latest) WHERE latest - earliest > 60000;

-- Whom entries name. A page holds the mentions of those that were written together; those of 8,192 entries become a volume, which
-- has them in parts, so that a search reads one part of each. Only entries of one block, sequences with one quotient by
-- 65536, share either.
CREATE TABLE audit_page (
    id       BIGINT PRIMARY KEY,
    chain    TEXT   COLLATE "C" NOT NULL,
    block    BIGINT NOT NULL,
    volume   BIGINT,           -- the volume into which it is being bound
    entries  BIGINT NOT NULL,
    earliest BIGINT NOT NULL,
    latest   BIGINT NOT NULL,
    mentions BYTEA  NOT NULL
);
CREATE INDEX audit_page_unbound ON audit_page (chain, block, id, entries) WHERE volume IS NULL;
CREATE INDEX audit_page_bound ON audit_page (volume, id, entries) WHERE volume IS NOT NULL;
CREATE INDEX audit_page_time ON audit_page (latest);
CREATE TABLE audit_volume (
    id       BIGINT PRIMARY KEY,
    chain    TEXT   COLLATE "C" NOT NULL,
    block    BIGINT NOT NULL,
    earliest BIGINT NOT NULL,
    latest   BIGINT NOT NULL,
    parts    BIGINT NOT NULL, -- how far they are written, and when they go how many are left
    state    INTEGER NOT NULL -- 0: being bound, 1: it counts, and its pages go, 2: it counts and they are gone
);
CREATE INDEX audit_volume_time ON audit_volume (latest);
CREATE INDEX audit_volume_begun ON audit_volume (id) WHERE state < 2;
CREATE TABLE audit_volume_part (
    id       BIGINT PRIMARY KEY, -- 256 times the volume, and the part: volumes follow each other
    mentions BYTEA  NOT NULL
);
