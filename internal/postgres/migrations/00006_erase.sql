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
    found_some boolean;
    rest bigint;
    gone bigint := 0;
BEGIN
    SELECT upto INTO done FROM erased FOR UPDATE;
    IF done >= tombstone THEN
        RETURN 0;
    END IF;
    CREATE TEMP TABLE named ON COMMIT DROP AS
        SELECT t.ledger_index AS by, t.as_of, (run ->> 0)::bigint AS low, (run ->> 0)::bigint + (run ->> 1)::bigint AS high
        FROM (SELECT ledger_index, convert_from(entry, 'UTF8')::jsonb -> 'ledger' -> 'erased' AS said,
                (convert_from(entry, 'UTF8')::jsonb -> 'ledger' -> 'erased' ->> 'asOf')::bigint AS as_of
            FROM audit_events WHERE event_type IN ('RetentionRun', 'ContentErased') AND ledger_index > done AND ledger_index <= tombstone) t,
            jsonb_array_elements(t.said -> 'details') run
        WHERE t.as_of <= t.ledger_index;
    -- A hold that was placed or changed meanwhile voids a tombstone.
    DELETE FROM named n WHERE n.high > n.as_of OR EXISTS (SELECT FROM audit_events h
        WHERE h.event_type IN ('LegalHoldPlaced', 'LegalHoldChanged') AND h.ledger_index >= n.as_of AND h.ledger_index < n.by);
    PERFORM set_config('graven.erasing', 'on', true);
    FOR part IN SELECT 'audit_event_details' || to_char(month, '_YYYY_MM') FROM ledger_months WHERE first_index IS NOT NULL ORDER BY month LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I d JOIN named n ON d.ledger_index >= n.low AND d.ledger_index < n.high)', part) INTO found_some;
        CONTINUE WHEN NOT found_some;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
        EXECUTE format('CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM %I d
            WHERE NOT EXISTS (SELECT FROM named n WHERE d.ledger_index >= n.low AND d.ledger_index < n.high)', part);
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
