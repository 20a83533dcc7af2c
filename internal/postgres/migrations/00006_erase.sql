-- What tombstones name is erased: its salt and erasable content. Only
-- graven.erase can, which believes the entries alone, and graven_purger may call
-- it.

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

-- erase erases what the tombstones up to an index name. A partition with
-- something to be erased is written anew, so that no dead row keeps it.
-- +goose StatementBegin
CREATE FUNCTION graven.erase(tombstone bigint) RETURNS bigint
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
    -- Runs may overlap. With the greatest end of those that begin no later, an
    -- entry is named if the last run that begins no later ends behind it.
    CREATE TEMP TABLE named ON COMMIT DROP AS
        WITH told AS (
            SELECT ledger_index, convert_from(entry, 'UTF8')::jsonb -> 'ledger' -> 'erased' AS said
            FROM audit_events WHERE event_type IN ('RetentionRun', 'ContentErased') AND ledger_index > done AND ledger_index <= tombstone
        ), counting AS MATERIALIZED (
            SELECT said -> 'details' AS details, (said ->> 'asOf')::bigint AS as_of FROM told t
            WHERE (said ->> 'asOf')::bigint <= ledger_index
            -- A hold that was placed or changed meanwhile voids a tombstone.
            AND NOT EXISTS (SELECT FROM audit_events h WHERE h.event_type IN ('LegalHoldPlaced', 'LegalHoldChanged')
                AND h.ledger_index >= (t.said ->> 'asOf')::bigint AND h.ledger_index < t.ledger_index)
        ), run AS (
            SELECT (pair ->> 0)::bigint AS low, (pair ->> 0)::bigint + (pair ->> 1)::bigint AS high, as_of
            FROM counting, jsonb_array_elements(details) pair
        )
        SELECT low, max(high) OVER (ORDER BY low) AS high FROM run WHERE high <= as_of;
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
