-- The audit log becomes a chain for each node. What was written before is the chain ''.
DROP TRIGGER audit_is_append_only_update;
DROP TRIGGER audit_is_append_only_delete;
ALTER TABLE audit RENAME TO audit_before;
CREATE TABLE audit (
    chain    TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    previous BLOB    NOT NULL,
    digest   BLOB    NOT NULL,
    line     BLOB    NOT NULL,
    PRIMARY KEY (chain, sequence)
);
INSERT INTO audit (chain, sequence, previous, digest, line)
    SELECT '', sequence, previous, digest, line FROM audit_before ORDER BY sequence;
DROP TABLE audit_before;

-- The newest record of each chain but '', whose own is audit_head.
CREATE TABLE audit_chain (
    chain    TEXT    PRIMARY KEY,
    sequence INTEGER NOT NULL,
    digest   BLOB    NOT NULL
);

-- Signed tree heads, kept for good.
CREATE TABLE audit_tree_head (
    number   INTEGER PRIMARY KEY,
    head     BLOB    NOT NULL,
    frontier BLOB    NOT NULL
);

-- What stands for records that were retired, kept for good.
CREATE TABLE audit_stub (
    chain TEXT    NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL,
    stub  BLOB    NOT NULL,
    PRIMARY KEY (chain, first),
    CHECK (first >= 1 AND last >= first)
);

-- The keys that sign both, kept for good: what they signed must be told from what others did.
CREATE TABLE audit_key (
    number     INTEGER PRIMARY KEY,
    kid        TEXT    NOT NULL,
    algorithm  TEXT    NOT NULL,
    encrypted  BLOB    NOT NULL,
    public_jwk BLOB    NOT NULL,
    created_at INTEGER NOT NULL
);

-- Legal holds, kept for good: who asks later why something was kept, or was not.
CREATE TABLE audit_hold (
    id         TEXT    PRIMARY KEY,
    since      INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    why        TEXT    NOT NULL,
    by_whom    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);

CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are never changed'); END;
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit
WHEN NOT EXISTS (
    SELECT 1 FROM audit_stub WHERE chain = OLD.chain AND OLD.sequence BETWEEN first AND last
)
BEGIN SELECT RAISE(ABORT, 'audit records are never removed before a stub stands for them'); END;
-- REPLACE removes without asking the triggers of DELETE.
CREATE TRIGGER audit_is_append_only_replace BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE chain = NEW.chain AND sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'audit records are never replaced'); END;
CREATE TRIGGER audit_tree_head_is_append_only_replace BEFORE INSERT ON audit_tree_head
WHEN EXISTS (SELECT 1 FROM audit_tree_head WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'signed tree heads are never replaced'); END;
CREATE TRIGGER audit_stub_is_append_only_replace BEFORE INSERT ON audit_stub
WHEN EXISTS (SELECT 1 FROM audit_stub WHERE chain = NEW.chain AND first = NEW.first)
BEGIN SELECT RAISE(ABORT, 'stubs of audit records are never replaced'); END;
CREATE TRIGGER audit_head_grows BEFORE UPDATE ON audit_head WHEN NEW.sequence <= OLD.sequence
BEGIN SELECT RAISE(ABORT, 'the head of the audit log never goes back'); END;
CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the head of the audit log is never removed'); END;
CREATE TRIGGER audit_chain_grows BEFORE UPDATE ON audit_chain
WHEN NEW.sequence <= OLD.sequence OR NEW.chain <> OLD.chain
BEGIN SELECT RAISE(ABORT, 'the head of an audit chain never goes back'); END;
CREATE TRIGGER audit_chain_stays BEFORE DELETE ON audit_chain
BEGIN SELECT RAISE(ABORT, 'the head of an audit chain is never removed'); END;
CREATE TRIGGER audit_tree_head_is_append_only_update BEFORE UPDATE ON audit_tree_head
BEGIN SELECT RAISE(ABORT, 'signed tree heads are never changed'); END;
CREATE TRIGGER audit_tree_head_is_append_only_delete BEFORE DELETE ON audit_tree_head
BEGIN SELECT RAISE(ABORT, 'signed tree heads are never removed'); END;
CREATE TRIGGER audit_stub_is_append_only_update BEFORE UPDATE ON audit_stub
BEGIN SELECT RAISE(ABORT, 'stubs of audit records are never changed'); END;
CREATE TRIGGER audit_stub_is_append_only_delete BEFORE DELETE ON audit_stub
BEGIN SELECT RAISE(ABORT, 'stubs of audit records are never removed'); END;
CREATE TRIGGER audit_key_stays BEFORE DELETE ON audit_key
BEGIN SELECT RAISE(ABORT, 'keys of the audit log are never removed'); END;
CREATE TRIGGER audit_hold_stays BEFORE DELETE ON audit_hold
BEGIN SELECT RAISE(ABORT, 'legal holds are ended, never removed'); END;
