-- The ledger. All that is written goes through functions, so that no role but
-- the owner may write into a table. Everything stands in the schema graven.

-- +goose Up

-- Where the ledger ends. The row is locked while a pool is appended.
CREATE TABLE graven.ledger_head (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    size       bigint NOT NULL DEFAULT 0 CHECK (size >= 0),
    chain      text NOT NULL DEFAULT repeat('0', 64),  -- event_hash of the last entry
    month      date,                                   -- of the last entry
    timeline   text,                                   -- of the server, when the last pool was appended
    checkpoint bytea                                   -- signed, over all entries
) WITH (fillfactor = 10);
INSERT INTO graven.ledger_head DEFAULT VALUES;

-- Every checkpoint that was signed.
CREATE TABLE graven.ledger_checkpoints (
    size       bigint PRIMARY KEY,
    checkpoint bytea NOT NULL
);

-- The months that have partitions, and the first entry of each.
CREATE TABLE graven.ledger_months (
    month       date PRIMARY KEY CHECK (month = date_trunc('month', month)),
    first_index bigint UNIQUE
);

-- The hashes of complete subtrees of the Merkle tree (RFC 6962), of 2^level
-- entries each, for every eighth level from 8 on. The leaves stand with the
-- entries.
CREATE TABLE graven.ledger_hashes (
    level smallint,
    n     bigint,
    hash  bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, n)
);

-- The ids of all events there ever were.
CREATE TABLE graven.event_ids (
    event_id     uuid PRIMARY KEY,
    ledger_index bigint NOT NULL
);

-- The entries. What an event says stands in entry, of which the hashes are;
-- the other columns are copied from it to be searched.
CREATE TABLE graven.audit_events (
    ledger_index        bigint NOT NULL,
    recorded_month      date NOT NULL,
    recorded_at         timestamptz NOT NULL,
    event_id            uuid NOT NULL,
    event_type          text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    event_nanos         smallint NOT NULL,  -- beyond the microsecond
    event_category      text NOT NULL,
    event_action        text NOT NULL,
    event_outcome       text NOT NULL,
    actor_type          text NOT NULL,
    actor_id            text NOT NULL,
    resource_type       text NOT NULL,
    resource_id         text NOT NULL,
    namespace           text NOT NULL,
    cluster_id          text NOT NULL,
    correlation_id      text NOT NULL,
    severity            text NOT NULL,
    retention_days      integer NOT NULL,
    source_name         text NOT NULL,
    source_epoch        text NOT NULL,
    source_seq          bigint NOT NULL,
    event_hash          text NOT NULL,
    previous_event_hash text NOT NULL,
    leaf_hash           bytea NOT NULL,
    entry               bytea NOT NULL,
    PRIMARY KEY (ledger_index, recorded_month)
) PARTITION BY RANGE (recorded_month);
ALTER TABLE graven.audit_events ALTER COLUMN entry SET STORAGE EXTERNAL;
CREATE INDEX audit_events_correlation ON graven.audit_events (correlation_id, ledger_index) WHERE correlation_id <> '';
CREATE INDEX audit_events_actor ON graven.audit_events (actor_id, ledger_index);
CREATE INDEX audit_events_resource ON graven.audit_events (resource_id, ledger_index) WHERE resource_id <> '';
CREATE INDEX audit_events_type ON graven.audit_events (event_type, ledger_index);
CREATE INDEX audit_events_namespace ON graven.audit_events (namespace, ledger_index) WHERE namespace <> '';
CREATE INDEX audit_events_time ON graven.audit_events USING brin (event_timestamp);

-- What may be erased: details, error messages and the words of callers, with
-- the salt of their digests.
CREATE TABLE graven.audit_event_details (
    ledger_index   bigint NOT NULL,
    recorded_month date NOT NULL,
    salt           bytea NOT NULL,
    erasable       bytea NOT NULL,
    PRIMARY KEY (ledger_index, recorded_month)
) PARTITION BY RANGE (recorded_month);

-- +goose StatementBegin
CREATE FUNCTION graven.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of graven.%: what was recorded cannot be changed', TG_OP, TG_TABLE_NAME USING ERRCODE = 'GR003';
END $$;
-- +goose StatementEnd

CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON graven.audit_events FOR EACH ROW EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON graven.audit_event_details FOR EACH ROW EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON graven.event_ids FOR EACH ROW EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON graven.ledger_hashes FOR EACH ROW EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON graven.ledger_checkpoints FOR EACH ROW EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE TRUNCATE ON graven.audit_events EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE TRUNCATE ON graven.audit_event_details EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE TRUNCATE ON graven.event_ids EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE TRUNCATE ON graven.ledger_hashes EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE TRUNCATE ON graven.ledger_checkpoints EXECUTE FUNCTION graven.refuse();
CREATE TRIGGER refuse_all BEFORE DELETE OR TRUNCATE ON graven.ledger_head EXECUTE FUNCTION graven.refuse();

-- make_months makes the partitions of the month that a time is in, and of so
-- many months behind it, as far as they are not there.
-- +goose StatementBegin
CREATE FUNCTION graven.make_months(at timestamptz, ahead integer) RETURNS integer
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
        INSERT INTO ledger_months (month) VALUES (m);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd

-- timeline names the server's history: a standby that was promoted has another.
CREATE FUNCTION graven.timeline() RETURNS text LANGUAGE sql AS $$
    SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
$$;

-- append makes a pool durable, behind the entry of which expected_chain is the
-- event_hash. Each array has one element an entry; hashes begins with
-- expected_chain.
-- +goose StatementBegin
CREATE FUNCTION graven.append(
    expected_size bigint, expected_chain text, new_checkpoint bytea,
    recorded_ats timestamptz[], ids uuid[], types text[], times timestamptz[], nanos smallint[],
    categories text[], actions text[], outcomes text[], actor_types text[], actors text[],
    kinds text[], resources text[], namespaces text[], clusters text[], correlations text[],
    severities text[], retentions integer[], sources text[], epochs text[], seqs bigint[], hashes text[], leaves bytea[], entries bytea[],
    salts bytea[], erasables bytea[],
    levels smallint[], ns bigint[], subtrees bytea[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
DECLARE
    added integer := cardinality(ids);
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
        at := least(at, recorded_ats[added]); -- it was recorded elsewhere
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
        SELECT expected_size + t.n - 1, m, t.recorded_at, t.id, t.type, t.time, t.nano, t.category, t.action, t.outcome,
            t.actor_type, t.actor, t.kind, t.resource, t.namespace, t.cluster, t.correlation, t.severity, t.retention,
            t.source, t.epoch, t.seq, t.hash, t.previous, t.leaf, t.entry
        FROM unnest(recorded_ats, ids, types, times, nanos, categories, actions, outcomes, actor_types, actors, kinds, resources,
            namespaces, clusters, correlations, severities, retentions, sources, epochs, seqs, hashes[2:], hashes[:added], leaves, entries)
            WITH ORDINALITY AS t(recorded_at, id, type, time, nano, category, action, outcome, actor_type, actor, kind, resource,
            namespace, cluster, correlation, severity, retention, source, epoch, seq, hash, previous, leaf, entry, n);
    INSERT INTO audit_event_details
        SELECT expected_size + t.n - 1, m, t.salt, t.erasable
        FROM unnest(salts, erasables) WITH ORDINALITY AS t(salt, erasable, n)
        WHERE t.erasable IS NOT NULL;
    INSERT INTO event_ids
        SELECT t.id, expected_size + t.n - 1 FROM unnest(ids) WITH ORDINALITY AS t(id, n);
    IF cardinality(levels) > 0 THEN
        INSERT INTO ledger_hashes SELECT * FROM unnest(levels, ns, subtrees);
    END IF;
    INSERT INTO ledger_checkpoints VALUES (expected_size + added, new_checkpoint);
    UPDATE ledger_head SET size = expected_size + added, chain = hashes[added + 1], month = m, timeline = here, checkpoint = new_checkpoint;
END $$;
-- +goose StatementEnd

-- lock keeps other writers out until the transaction ends.
CREATE FUNCTION graven.lock() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
    SELECT FROM ledger_head FOR UPDATE
$$;

-- accept has pools appended to a database that was promoted or restored. It is
-- for the owner, who knows that nothing is missing.
CREATE FUNCTION graven.accept() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
    UPDATE ledger_head SET timeline = timeline()
$$;

-- +goose StatementBegin
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['graven_reader', 'graven_writer'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another ledger of the same server has made it
        END;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON ALL TABLES IN SCHEMA graven FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA graven FROM PUBLIC;
GRANT USAGE ON SCHEMA graven TO graven_reader, graven_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA graven TO graven_reader, graven_writer;
GRANT EXECUTE ON FUNCTION graven.timeline TO graven_reader, graven_writer;
GRANT EXECUTE ON FUNCTION graven.append, graven.lock, graven.make_months TO graven_writer;
