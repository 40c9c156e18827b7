-- The audit log becomes a chain for each node. What was written before is the chain '', whose head stays audit_head:
-- nodes of the version before go on with it until they are replaced.
DROP TRIGGER audit_is_append_only ON audit;
ALTER TABLE audit ADD COLUMN chain TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit DROP CONSTRAINT audit_pkey;
ALTER TABLE audit ADD PRIMARY KEY (chain, sequence);

-- The newest record of each other chain. Whoever appends locks it.
CREATE TABLE audit_chain (
    chain    TEXT   COLLATE "C" PRIMARY KEY,
    sequence BIGINT NOT NULL,
    digest   BYTEA  NOT NULL
);

-- Signed tree heads, kept for good.
CREATE TABLE audit_tree_head (
    number   BIGINT PRIMARY KEY,
    head     BYTEA  NOT NULL,
    frontier BYTEA  NOT NULL
);

-- What stands for records that were retired, kept for good.
CREATE TABLE audit_stub (
    chain TEXT   COLLATE "C" NOT NULL,
    first BIGINT NOT NULL,
    last  BIGINT NOT NULL,
    stub  BYTEA  NOT NULL,
    PRIMARY KEY (chain, first),
    CHECK (first >= 1 AND last >= first)
);

-- The keys that sign both, kept for good: what they signed must be told from what others did.
CREATE TABLE audit_key (
    number     BIGINT PRIMARY KEY,
    kid        TEXT   COLLATE "C" NOT NULL,
    algorithm  TEXT   COLLATE "C" NOT NULL,
    encrypted  BYTEA  NOT NULL,
    public_jwk BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

-- Legal holds, kept for good: who asks later why something was kept, or was not.
CREATE TABLE audit_hold (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    since      BIGINT NOT NULL,
    until      BIGINT NOT NULL,
    why        TEXT   NOT NULL,
    by_whom    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM audit_stub WHERE chain = OLD.chain AND OLD.sequence BETWEEN first AND last
    ) THEN
        RAISE EXCEPTION 'rows of audit are never removed before a stub stands for them';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_is_removed_for_a_stub BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_removal();

CREATE FUNCTION refuse_going_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sequence <= OLD.sequence THEN
        RAISE EXCEPTION 'rows of % never go back', TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_head_grows BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION refuse_going_back();
CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_chain_grows BEFORE UPDATE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION refuse_going_back();
CREATE TRIGGER audit_chain_stays BEFORE DELETE OR TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_tree_head_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_tree_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_stub_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_stub
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_key_stays BEFORE DELETE ON audit_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_hold_stays BEFORE DELETE ON audit_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The gateway's role may not delete from audit: it calls this, which acts with the owner's right and only where a
-- stub stands for the rows.
CREATE FUNCTION remove_stubbed_audit(the_chain TEXT, the_first BIGINT, at_most BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE removed BIGINT;
BEGIN
    DELETE FROM audit WHERE chain = the_chain AND sequence IN (
        SELECT a.sequence FROM audit a JOIN audit_stub s
            ON s.chain = a.chain AND a.sequence BETWEEN s.first AND s.last
        WHERE a.chain = the_chain AND s.first = the_first ORDER BY a.sequence LIMIT at_most
    );
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
