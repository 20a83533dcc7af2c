-- Whole entries are erased, too, from the ledger's beginning on: of each its
-- hashes stay, and what remains of it, by which the event is known when it comes
-- again.

-- +goose Up

-- Of an entry that was pruned, leaf_hash is that of the entry as it was, entry is
-- what remains of it, and the other columns say what that says.
ALTER TABLE graven.audit_events ADD COLUMN pruned boolean NOT NULL DEFAULT false;
ALTER TYPE graven.new_entry ADD ATTRIBUTE pruned boolean;

-- The index below which that was done.
ALTER TABLE graven.erased ADD COLUMN pruned bigint NOT NULL DEFAULT 0;

-- What the server knows of columns, to plan with, are values of theirs. It is not
-- to know any of those that no question asks for, nor any of the table as a whole,
-- of which it is not used: they would be left when the rows go. graven.erase has it
-- learn anew what it knows of a partition. Here it forgets with a column's type.
ALTER TABLE graven.audit_events ALTER COLUMN entry TYPE bytea, ALTER COLUMN leaf_hash TYPE bytea;
ALTER TABLE graven.audit_events ALTER COLUMN entry SET STORAGE EXTERNAL,
    ALTER COLUMN entry SET STATISTICS 0, ALTER COLUMN leaf_hash SET STATISTICS 0;
ALTER TABLE ONLY graven.audit_events
    ALTER COLUMN event_id SET STATISTICS 0, ALTER COLUMN event_type SET STATISTICS 0, ALTER COLUMN event_category SET STATISTICS 0,
    ALTER COLUMN event_action SET STATISTICS 0, ALTER COLUMN event_outcome SET STATISTICS 0, ALTER COLUMN actor_type SET STATISTICS 0,
    ALTER COLUMN actor_id SET STATISTICS 0, ALTER COLUMN resource_type SET STATISTICS 0, ALTER COLUMN resource_id SET STATISTICS 0,
    ALTER COLUMN namespace SET STATISTICS 0, ALTER COLUMN cluster_id SET STATISTICS 0, ALTER COLUMN correlation_id SET STATISTICS 0,
    ALTER COLUMN severity SET STATISTICS 0, ALTER COLUMN retention_days SET STATISTICS 0;
ALTER TABLE graven.audit_event_details ALTER COLUMN salt TYPE bytea, ALTER COLUMN erasable TYPE bytea;
ALTER TABLE graven.audit_event_details ALTER COLUMN salt SET STATISTICS 0, ALTER COLUMN erasable SET STATISTICS 0;

-- make_months makes the partitions of the month that a time is in, and of so
-- many months behind it, as far as they are not there.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION graven.make_months(at timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
DECLARE
    begins date := date_trunc('month', at AT TIME ZONE 'UTC');
    m date;
    made integer := 0;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('graven.make_months'));
    FOR m IN SELECT generate_series(begins, begins + make_interval(months => ahead), '1 month')::date LOOP
        CONTINUE WHEN EXISTS (SELECT FROM ledger_months WHERE month = m);
        FOREACH part IN ARRAY ARRAY['audit_events', 'audit_event_details'] LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                part || to_char(m, '_YYYY_MM'), part, m, m + interval '1 month');
            EXECUTE format('CREATE TRIGGER refuse_all BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse()', part || to_char(m, '_YYYY_MM'));
            EXECUTE format('GRANT SELECT ON %I TO graven_reader, graven_writer', part || to_char(m, '_YYYY_MM'));
        END LOOP;
        EXECUTE format('ALTER TABLE %I ALTER COLUMN entry SET STATISTICS 0, ALTER COLUMN leaf_hash SET STATISTICS 0', 'audit_events' || to_char(m, '_YYYY_MM'));
        EXECUTE format('ALTER TABLE %I ALTER COLUMN salt SET STATISTICS 0, ALTER COLUMN erasable SET STATISTICS 0', 'audit_event_details' || to_char(m, '_YYYY_MM'));
        INSERT INTO ledger_months (month) VALUES (m);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd

-- append makes a pool durable, behind the entry of which expected_chain is the
-- event_hash. Each array but the last three has one element an entry.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION graven.append(
    expected_size bigint, expected_chain text, new_checkpoint bytea,
    added graven.new_entry[], ids uuid[], salts bytea[], erasables bytea[],
    levels smallint[], ns bigint[], subtrees bytea[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp
SET work_mem = '32MB' -- or arrays of a large pool are taken apart in a file
AS $$
DECLARE
    new_size bigint := expected_size + cardinality(added);
    last new_entry := added[cardinality(added)];
    head ledger_head;
    here text := timeline();
    at timestamptz := now();
    m date;
BEGIN
    SELECT * INTO head FROM ledger_head FOR UPDATE;
    IF head.size <> expected_size OR head.chain <> expected_chain THEN
        RAISE EXCEPTION 'the ledger has % entries, not %', head.size, expected_size USING ERRCODE = 'GR001';
    END IF;
    IF head.timeline <> here THEN
        RAISE EXCEPTION 'the last pool was appended on the timeline %, this is %', head.timeline, here USING ERRCODE = 'GR002';
    END IF;
    IF current_setting('graven.copying', true) = 'on' THEN
        at := least(at, last.recorded_at); -- it was recorded elsewhere
    END IF;
    SELECT max(month) INTO m FROM ledger_months WHERE month <= (at AT TIME ZONE 'UTC')::date;
    IF m IS NULL THEN
        RAISE EXCEPTION 'there is no partition for %', at USING ERRCODE = 'GR004';
    END IF;
    m := greatest(m, head.month); -- a clock that goes back changes nothing
    IF m IS DISTINCT FROM head.month THEN
        UPDATE ledger_months SET first_index = expected_size WHERE month = m;
    END IF;
    INSERT INTO audit_events
        SELECT expected_size + t.n - 1, m, t.recorded_at, t.event_id, t.event_type, t.event_timestamp, t.event_nanos,
            t.event_category, t.event_action, t.event_outcome, t.actor_type, t.actor_id, t.resource_type, t.resource_id, t.namespace,
            t.cluster_id, t.correlation_id, t.severity, t.retention_days, t.source_name, t.source_epoch, t.source_seq,
            t.event_hash, t.previous_event_hash, t.leaf_hash, t.entry, t.pruned
        FROM unnest(added) WITH ORDINALITY AS t(recorded_at, event_id, event_type, event_timestamp, event_nanos, event_category,
            event_action, event_outcome, actor_type, actor_id, resource_type, resource_id, namespace, cluster_id, correlation_id, severity,
            retention_days, source_name, source_epoch, source_seq, event_hash, previous_event_hash, leaf_hash, entry, pruned, n);
    INSERT INTO audit_event_details
        SELECT expected_size + t.n - 1, m, t.salt, t.erasable
        FROM unnest(salts, erasables) WITH ORDINALITY AS t(salt, erasable, n)
        WHERE t.erasable IS NOT NULL;
    INSERT INTO event_ids
        SELECT t.id, expected_size + t.n - 1 FROM unnest(ids) WITH ORDINALITY AS t(id, n);
    IF cardinality(levels) > 0 THEN
        INSERT INTO ledger_hashes SELECT * FROM unnest(levels, ns, subtrees);
    END IF;
    INSERT INTO ledger_checkpoints VALUES (new_size, new_checkpoint);
    UPDATE ledger_head SET size = new_size, chain = last.event_hash, month = m, timeline = here, checkpoint = new_checkpoint;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION graven.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND TG_TABLE_NAME ~ '^(audit_events|audit_event_details)_' AND current_setting('graven.erasing', true) = 'on' THEN
        RETURN NULL; -- only the owner may truncate, in graven.erase
    END IF;
    RAISE EXCEPTION '% of graven.%: what was recorded cannot be changed', TG_OP, TG_TABLE_NAME USING ERRCODE = 'GR003';
END $$;
-- +goose StatementEnd

-- remains returns what remains of an entry, or null where it stays: because it
-- holds facts that verification rests on, or because it is not the one that was
-- sealed, which 'graven verify' is to find. An entry is canonical JSON (RFC 8785),
-- of which the type json leaves every byte of a value as it is.
-- +goose StatementBegin
CREATE FUNCTION graven.remains(entry bytea, leaf bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = graven, pg_temp AS $$
BEGIN
    IF sha256('\x00'::bytea || entry) <> leaf THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT CASE WHEN bool_or(key = 'ledger') THEN NULL ELSE convert_to('{' || string_agg(
            '"' || key || '":' || CASE key WHEN 'actor' THEN '{}' WHEN 'resource' THEN '{"kind":""}'
                WHEN 'recorded' THEN '{"at":' || (value -> 'at')::text || '}' ELSE value::text END, ',' ORDER BY n)
            FILTER (WHERE key IN ('actor', 'detailsDigest', 'id', 'recorded', 'resource', 'source', 'timestamp', 'v')
                OR key = 'eventType' AND value::text IN ('"RecorderHeartbeat"', '"RecorderStopped"')) || '}', 'UTF8') END
        FROM json_each(convert_from(entry, 'UTF8')::json) WITH ORDINALITY AS member(key, value, n));
EXCEPTION WHEN data_exception THEN -- it is no JSON, and was never an entry
    RETURN NULL;
END $$;
-- +goose StatementEnd

DROP FUNCTION graven.erase(bigint, bigint[], bigint[]);

-- erase erases the content of the entries from each of lows on, below the one in
-- highs, and the entries below an index but for what remains of them: which the
-- tombstones up to an index must name. A partition with something to be erased is
-- written anew, so that no dead row keeps it.
-- +goose StatementBegin
CREATE FUNCTION graven.erase(tombstone bigint, lows bigint[], highs bigint[], below bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
DECLARE
    done bigint;
    already bigint;
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
    SELECT upto, pruned INTO done, already FROM erased FOR UPDATE;
    SELECT least(tombstone, size - 1) INTO tombstone FROM ledger_head;
    IF done >= tombstone THEN
        RETURN 0;
    END IF;
    -- The tombstones that count.
    CREATE TEMP TABLE counting ON COMMIT DROP AS
        WITH stone AS (
            SELECT ledger_index, convert_from(entry, 'UTF8')::jsonb -> 'ledger' -> 'erased' AS said
            FROM audit_events WHERE event_type IN ('RetentionRun', 'ContentErased') AND ledger_index > done AND ledger_index <= tombstone
        )
        SELECT said -> 'details' AS details, (said ->> 'asOf')::bigint AS as_of, coalesce((said -> 'entries' ->> 'end')::bigint, 0) AS entries
        FROM stone t WHERE (said ->> 'asOf')::bigint <= ledger_index
        -- A hold that was placed or changed meanwhile voids a tombstone.
        AND NOT EXISTS (SELECT FROM audit_events h WHERE h.event_type IN ('LegalHoldPlaced', 'LegalHoldChanged')
            AND h.ledger_index >= (t.said ->> 'asOf')::bigint AND h.ledger_index < t.ledger_index);
    IF below > 0 AND NOT EXISTS (SELECT FROM counting WHERE entries >= below AND entries <= as_of AND entries % 256 = 0) THEN
        RAISE EXCEPTION 'no tombstone in the ledger says that the entries below % were erased', below USING ERRCODE = 'GR003';
    END IF;
    -- Whose content the tombstones in the ledger name, as far as it can be told
    -- here: runs that overlap or touch are one.
    CREATE TEMP TABLE told ON COMMIT DROP AS
        WITH run AS (
            SELECT (pair ->> 0)::bigint AS low, (pair ->> 0)::bigint + (pair ->> 1)::bigint AS high, as_of
            FROM counting, jsonb_array_elements(details) pair
            UNION ALL
            SELECT 0, entries, as_of FROM counting WHERE entries > 0
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
    CREATE TEMP TABLE named ON COMMIT DROP AS
        SELECT greatest(w.low, below) AS low, w.high FROM unnest(lows, highs) w(low, high) WHERE w.high > below OR w.high <= w.low
        UNION ALL
        SELECT 0, below WHERE below > 0;
    IF EXISTS (SELECT FROM named n WHERE n.high <= n.low
        OR coalesce((SELECT t.high FROM told t WHERE t.low <= n.low ORDER BY t.low DESC LIMIT 1), -1) < n.high) THEN
        RAISE EXCEPTION 'no tombstone in the ledger names all of these entries' USING ERRCODE = 'GR003';
    END IF;
    CREATE INDEX ON named (low);
    ANALYZE named;
    PERFORM set_config('graven.erasing', 'on', true);
    -- Entries go before details, for that is the order in which whoever appends or
    -- reads locks them.
    FOR part IN SELECT 'audit_events' || to_char(month, '_YYYY_MM') FROM ledger_months WHERE first_index < below ORDER BY first_index LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE ledger_index >= $1 AND ledger_index < $2 AND NOT pruned AND remains(entry, leaf_hash) IS NOT NULL)', part)
            INTO found_some USING already, below;
        CONTINUE WHEN NOT found_some;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
        EXECUTE format('CREATE TEMP TABLE kept ON COMMIT DROP AS
            SELECT ledger_index, recorded_month, recorded_at, event_id,
                CASE WHEN w OR event_type IN (''RecorderHeartbeat'', ''RecorderStopped'') THEN event_type ELSE '''' END AS event_type,
                event_timestamp, event_nanos,
                CASE WHEN w THEN event_category ELSE '''' END AS event_category, CASE WHEN w THEN event_action ELSE '''' END AS event_action,
                CASE WHEN w THEN event_outcome ELSE '''' END AS event_outcome, CASE WHEN w THEN actor_type ELSE '''' END AS actor_type,
                CASE WHEN w THEN actor_id ELSE '''' END AS actor_id, CASE WHEN w THEN resource_type ELSE '''' END AS resource_type,
                CASE WHEN w THEN resource_id ELSE '''' END AS resource_id, CASE WHEN w THEN namespace ELSE '''' END AS namespace,
                CASE WHEN w THEN cluster_id ELSE '''' END AS cluster_id, CASE WHEN w THEN correlation_id ELSE '''' END AS correlation_id,
                CASE WHEN w THEN severity ELSE '''' END AS severity, CASE WHEN w THEN retention_days ELSE 0 END AS retention_days,
                source_name, source_epoch, source_seq, event_hash, previous_event_hash, leaf_hash,
                coalesce(rest, entry) AS entry, pruned OR rest IS NOT NULL AS pruned
            FROM (SELECT *, rest IS NULL AS w FROM (
                SELECT *, CASE WHEN ledger_index < $1 AND NOT pruned THEN remains(entry, leaf_hash) END AS rest FROM %I OFFSET 0) e) e', part) USING below;
        EXECUTE format('TRUNCATE %I', part);
        EXECUTE format('INSERT INTO %I SELECT * FROM kept ORDER BY ledger_index', part);
        EXECUTE format('ANALYZE %I', part); -- what is known of the columns tells of what was there
        DROP TABLE kept;
    END LOOP;
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
    UPDATE erased SET upto = tombstone, pruned = greatest(pruned, below);
    DROP TABLE named;
    DROP TABLE told;
    DROP TABLE counting;
    RETURN gone;
END $$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION graven.append, graven.make_months, graven.remains, graven.erase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION graven.append, graven.make_months TO graven_writer;
GRANT EXECUTE ON FUNCTION graven.erase TO graven_purger;
