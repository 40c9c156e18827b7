-- What may be used once within minutes (proofs, assertions, request objects) in the order in which it was claimed, so that
-- claims made together share a page: their keys are random and would each dirty one of its own. Every process knows the
-- keys of rows that it has read; a row is added only behind the newest one, by whoever has read that.
CREATE TABLE replay_claim (
    sequence   INTEGER PRIMARY KEY,
    namespace  TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
);
-- The newest row is never removed, only emptied: a number is given once.
INSERT INTO replay_claim VALUES (1, '', x'', 0);
INSERT INTO replay_claim (namespace, key, expires_at) SELECT namespace, key, expires_at FROM claim
    WHERE namespace IN ('dpop-proof', 'client-assertion', 'request-object') ORDER BY expires_at;
DELETE FROM claim WHERE namespace IN ('dpop-proof', 'client-assertion', 'request-object');

-- A process of an older program that still has this file open must not accept what another one has claimed here.
CREATE TRIGGER claim_is_of_no_replay BEFORE INSERT ON claim
WHEN NEW.namespace IN ('dpop-proof', 'client-assertion', 'request-object')
BEGIN SELECT RAISE(ABORT, 'this program is older than its store: start the newer one'); END;

-- Each claim once: a key that was claimed anew after its end may stand here twice.
CREATE VIEW every_claim AS
    SELECT namespace, key, expires_at FROM claim
    UNION ALL
    SELECT namespace, key, MAX(expires_at) FROM replay_claim WHERE namespace <> '' GROUP BY namespace, key;
