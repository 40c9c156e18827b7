-- How far the audit log was delivered elsewhere. No expiry: a feed that comes back goes on where it was.
CREATE TABLE audit_feed (
    feed     TEXT   COLLATE "C" NOT NULL,
    chain    TEXT   COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (feed, chain)
);
