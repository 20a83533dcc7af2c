-- What tombstones name is erased: its salt and erasable content. Only
-- graven.erase can, which erases nothing that no tombstone in the entries names,
-- and graven_purger may call it.

-- +goose Up

-- The index of the last tombstone up to which that was done.
CREATE TABLE graven.erased (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    upto bigint NOT NULL DEFAULT -1
);
INSERT INTO graven.erased DEFAULT VALUES;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION graven.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND TG_TABLE_NAME LIKE 'audit\_event\_details\_%' AND current_setting('graven.erasing', true) = 'on' THEN
        RETURN NULL; -- only the owner may truncate, in graven.erase
    END IF;
    RAISE EXCEPTION '% of graven.%: what was recorded cannot be changed', TG_OP, TG_TABLE_NAME USING ERRCODE = 'GR003';
END $$;
-- +goose StatementEnd

-- erase erases the content of the entries from each of lows on, below the one in
-- highs, which the tombstones up to an index must name. A partition with something
-- to be erased is written anew, so that no dead row keeps it.
-- +goose StatementBegin
CREATE FUNCTION graven.erase(tombstone bigint, lows bigint[], highs bigint[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
DECLARE
    done bigint;
    part text;
    first bigint;
    behind bigint;
    found_some boolean;
    rest bigint;
    gone bigint := 0;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- What was appended while a lock is waited for would be truncated unseen.
        RAISE EXCEPTION 'graven.erase wants the isolation level read committed';
    END IF;
    SELECT upto INTO done FROM erased FOR UPDATE;
    SELECT least(tombstone, size - 1) INTO tombstone FROM ledger_head;
    IF done >= tombstone THEN
        RETURN 0;
    END IF;
    -- What the tombstones in the ledger name, as far as it can be told here: runs
    -- that overlap or touch are one.
    CREATE TEMP TABLE told ON COMMIT DROP AS
        WITH stone AS (
            SELECT ledger_index, convert_from(entry, 'UTF8')::jsonb -> 'ledger' -> 'erased' AS said
            FROM audit_events WHERE event_type IN ('RetentionRun', 'ContentErased') AND ledger_index > done AND ledger_index <= tombstone
        ), counting AS MATERIALIZED (
            SELECT said -> 'details' AS details, (said ->> 'asOf')::bigint AS as_of FROM stone t
            WHERE (said ->> 'asOf')::bigint <= ledger_index
            -- A hold that was placed or changed meanwhile voids a tombstone.
            AND NOT EXISTS (SELECT FROM audit_events h WHERE h.event_type IN ('LegalHoldPlaced', 'LegalHoldChanged')
                AND h.ledger_index >= (t.said ->> 'asOf')::bigint AND h.ledger_index < t.ledger_index)
        ), run AS (
            SELECT (pair ->> 0)::bigint AS low, (pair ->> 0)::bigint + (pair ->> 1)::bigint AS high, as_of
            FROM counting, jsonb_array_elements(details) pair
        ), apart AS (
            SELECT low, high, low > coalesce(max(high) OVER (ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), -1) AS apart
            FROM run WHERE high <= as_of
        ), numbered AS (
            SELECT low, high, count(*) FILTER (WHERE apart) OVER (ORDER BY low, high) AS n FROM apart
        )
        SELECT min(low) AS low, max(high) AS high FROM numbered GROUP BY n;
    CREATE INDEX ON told (low);
    ANALYZE told;
    -- What is erased is what the caller, who reads tombstones more strictly, finds
    -- named, too. The runs are in order and apart.
    CREATE TEMP TABLE named ON COMMIT DROP AS SELECT w.low, w.high FROM unnest(lows, highs) w(low, high);
    IF EXISTS (SELECT FROM named n WHERE n.high <= n.low
        OR coalesce((SELECT t.high FROM told t WHERE t.low <= n.low ORDER BY t.low DESC LIMIT 1), -1) < n.high) THEN
        RAISE EXCEPTION 'no tombstone in the ledger names all of these entries' USING ERRCODE = 'GR003';
    END IF;
    CREATE INDEX ON named (low);
    ANALYZE named;
    PERFORM set_config('graven.erasing', 'on', true);
    FOR part, first, behind IN
        SELECT 'audit_event_details' || to_char(month, '_YYYY_MM'), first_index, lead(first_index) OVER (ORDER BY first_index)
        FROM ledger_months WHERE first_index IS NOT NULL ORDER BY first_index
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM named n JOIN %I d ON d.ledger_index >= n.low AND d.ledger_index < n.high
            WHERE n.high > $1 AND ($2 IS NULL OR n.low < $2))', part) INTO found_some USING first, behind;
        CONTINUE WHEN NOT found_some;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
        EXECUTE format('CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM %I d
            WHERE coalesce((SELECT n.high FROM named n WHERE n.low <= d.ledger_index ORDER BY n.low DESC LIMIT 1), 0) <= d.ledger_index', part);
        EXECUTE format('SELECT count(*) FROM %I', part) INTO rest;
        gone := gone + rest;
        EXECUTE format('TRUNCATE %I', part);
        EXECUTE format('INSERT INTO %I SELECT * FROM kept ORDER BY ledger_index', part);
        GET DIAGNOSTICS rest = ROW_COUNT;
        gone := gone - rest;
        DROP TABLE kept;
    END LOOP;
    PERFORM set_config('graven.erasing', 'off', true);
    UPDATE erased SET upto = tombstone;
    DROP TABLE named;
    DROP TABLE told;
    RETURN gone;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    CREATE ROLE graven_purger NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another ledger of the same server has made it
END $$;
-- +goose StatementEnd
REVOKE ALL ON graven.erased FROM PUBLIC;
REVOKE ALL ON FUNCTION graven.erase FROM PUBLIC;
GRANT SELECT ON graven.erased TO graven_reader, graven_writer;
GRANT EXECUTE ON FUNCTION graven.erase TO graven_purger;
