-- How far the audit log was delivered elsewhere. No expiry: a feed that comes back goes on where it was.
CREATE TABLE audit_feed (
    feed     TEXT    NOT NULL,
    chain    TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (feed, chain)
) WITHOUT ROWID;
