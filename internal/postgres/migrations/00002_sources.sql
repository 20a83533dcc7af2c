-- What is counted of the sources of events: which numbers the ledger has. It is
-- derived from audit_events behind the writer, and can be made anew.

-- +goose Up

-- Of how many entries the sources are counted.
CREATE TABLE graven.counted (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    size bigint NOT NULL DEFAULT 0
);
INSERT INTO graven.counted DEFAULT VALUES;

-- The counts: of each source, one an epoch.
CREATE TABLE graven.counts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    epoch       text NOT NULL,
    first_index bigint NOT NULL,
    last_index  bigint NOT NULL,
    entries     bigint NOT NULL,
    numbers     bigint NOT NULL,             -- distinct ones
    runs        bigint NOT NULL,
    sign        bigint NOT NULL DEFAULT -1,  -- newest heartbeat or farewell
    earlier     bigint NOT NULL,             -- counts of the name that began before
    UNIQUE (name, epoch)
);

-- Consecutive numbers of a count that entries bear, and the first entries with
-- the lowest and the highest.
CREATE TABLE graven.runs (
    count      bigint NOT NULL REFERENCES graven.counts,
    low        bigint NOT NULL,
    high       bigint NOT NULL,
    low_index  bigint NOT NULL,
    high_index bigint NOT NULL,
    PRIMARY KEY (count, low)
);

-- count_sources counts the sources of the entries below a size. A count with a
-- name, an epoch, begins with the number 1, for which a run of 0 stands.
-- +goose StatementBegin
CREATE FUNCTION graven.count_sources(upto bigint, signs text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = graven, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    SELECT size INTO done FROM counted FOR UPDATE;
    SELECT least(upto, size) INTO upto FROM ledger_head;
    IF done >= upto THEN
        RETURN done;
    END IF;
    CREATE TEMP TABLE told ON COMMIT DROP AS
        SELECT source_name AS name, source_epoch AS epoch, source_seq AS seq, ledger_index AS idx, event_type = ANY(signs) AS sign
        FROM audit_events
        WHERE recorded_month >= coalesce((SELECT max(month) FROM ledger_months WHERE first_index <= done), '-infinity')
            AND ledger_index >= done AND ledger_index < upto AND source_name <> '' AND source_seq > 0;
    -- New counts, in the order in which they began.
    WITH fresh AS (
        SELECT t.name, t.epoch, min(t.idx) AS first FROM told t
        WHERE NOT EXISTS (SELECT FROM counts c WHERE c.name = t.name AND c.epoch = t.epoch)
        GROUP BY t.name, t.epoch
    ), made AS (
        INSERT INTO counts (name, epoch, first_index, last_index, entries, numbers, runs, earlier)
        SELECT f.name, f.epoch, f.first, f.first, 0, 0, (f.epoch <> '')::int,
            (SELECT count(*) FROM counts c WHERE c.name = f.name) + row_number() OVER (PARTITION BY f.name ORDER BY f.first) - 1
        FROM fresh f RETURNING id, epoch
    )
    INSERT INTO runs SELECT id, 0, 0, -1, -1 FROM made WHERE epoch <> '';
    -- Runs that touch what is new are merged with it.
    CREATE TEMP TABLE islands ON COMMIT DROP AS
        SELECT count, min(seq) AS low, max(seq) AS high FROM (
            SELECT c.id AS count, t.seq, t.seq - dense_rank() OVER (PARTITION BY c.id ORDER BY t.seq) AS island
            FROM told t JOIN counts c ON c.name = t.name AND c.epoch = t.epoch
        ) n GROUP BY count, island;
    CREATE TEMP TABLE merging ON COMMIT DROP AS
        SELECT DISTINCT r.* FROM runs r JOIN islands i ON r.count = i.count AND r.low <= i.high + 1 AND r.high >= i.low - 1;
    DELETE FROM runs r USING merging m WHERE r.count = m.count AND r.low = m.low;
    WITH parts AS (
        SELECT count, low, high, low_index, high_index FROM merging
        UNION ALL
        SELECT c.id, t.seq, t.seq, min(t.idx), min(t.idx) FROM told t JOIN counts c ON c.name = t.name AND c.epoch = t.epoch GROUP BY c.id, t.seq
    ), broken AS (
        SELECT *, low > max(high) OVER (PARTITION BY count ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) + 1 AS apart FROM parts
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE apart) OVER (PARTITION BY count ORDER BY low, high) AS run FROM broken
    ), merged AS (
        SELECT count, run, min(low) AS low, max(high) AS high FROM numbered GROUP BY count, run
    )
    INSERT INTO runs
        SELECT m.count, m.low, m.high, min(n.low_index) FILTER (WHERE n.low = m.low), min(n.high_index) FILTER (WHERE n.high = m.high)
        FROM merged m JOIN numbered n ON n.count = m.count AND n.run = m.run GROUP BY m.count, m.run, m.low, m.high;
    UPDATE counts c SET
        last_index = t.last, entries = c.entries + t.entries, sign = greatest(c.sign, t.sign),
        (runs, numbers) = (SELECT count(*), sum(high - low + 1) - (c.epoch <> '')::int FROM runs r WHERE r.count = c.id)
    FROM (SELECT name, epoch, max(idx) AS last, count(*) AS entries, coalesce(max(idx) FILTER (WHERE told.sign), -1) AS sign
        FROM told GROUP BY name, epoch) t
    WHERE c.name = t.name AND c.epoch = t.epoch;
    UPDATE counted SET size = upto;
    RETURN upto;
END $$;
-- +goose StatementEnd

REVOKE ALL ON ALL TABLES IN SCHEMA graven FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA graven FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA graven TO graven_reader, graven_writer;
GRANT EXECUTE ON FUNCTION graven.count_sources TO graven_writer;
