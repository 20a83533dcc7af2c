package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/graven-audit/graven/event"
)

// usualTable is an audit table as services have it: a column for all that is
// asked for, the content as JSON, and an index for each question.
const usualTable = `CREATE TABLE usual (
	event_id uuid PRIMARY KEY, event_timestamp timestamptz NOT NULL, event_date date NOT NULL, event_type text NOT NULL,
	event_category text NOT NULL, event_action text NOT NULL, event_outcome text NOT NULL, actor_type text, actor_id text,
	resource_type text, resource_id text, correlation_id text NOT NULL, namespace text, cluster_id text, severity text,
	retention_days integer, event_data jsonb NOT NULL, event_hash text, previous_event_hash text);
CREATE INDEX ON usual (event_timestamp DESC);
CREATE INDEX ON usual (correlation_id, event_timestamp DESC);
CREATE INDEX ON usual (event_type, event_timestamp DESC);
CREATE INDEX ON usual (resource_type, resource_id, event_timestamp DESC);
CREATE INDEX ON usual (actor_type, actor_id, event_timestamp DESC);
CREATE INDEX ON usual (event_outcome, event_timestamp DESC);
CREATE INDEX ON usual (event_date);
CREATE INDEX ON usual USING gin (event_data);
CREATE INDEX ON usual (event_hash) WHERE event_hash IS NOT NULL;
CREATE INDEX ON usual (cluster_id) WHERE cluster_id <> ''`

// usualWriter writes an audit table with a hash chain as services usually do:
// in a transaction, for each event an INSERT, under an advisory lock of its
// incident and after a look at the hash before. Incidents of different callers
// do not wait for each other.
func usualWriter(r run) (Sample, error) {
	ctx := context.Background()
	dsn, drop, err := makeDatabase(ctx, r)
	if err != nil {
		return Sample{}, err
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return Sample{}, err
	}
	config.MaxConns = int32(r.Producers)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return Sample{}, err
	}
	if _, err := pool.Exec(ctx, usualTable); err != nil {
		return Sample{}, err
	}
	s, err := producers(r, r.Producers, int64(r.Batch), func(p int, seq int64) error {
		incidents := map[string][]*event.Event{}
		for i := range int64(r.Batch) {
			e := newEvent(int64(p)<<32 + seq*int64(r.Batch) + i)
			e.Complete(e.Timestamp)
			incidents[e.CorrelationID] = append(incidents[e.CorrelationID], e)
		}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			for _, id := range slices.Sorted(maps.Keys(incidents)) {
				if err := usualIncident(ctx, tx, id, incidents[id]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	pool.Close()
	return s, errors.Join(err, drop())
}

func usualIncident(ctx context.Context, tx pgx.Tx, id string, events []*event.Event) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", id); err != nil {
		return err
	}
	var before string
	err := tx.QueryRow(ctx, "SELECT event_hash FROM usual WHERE correlation_id = $1 ORDER BY event_timestamp DESC, event_id DESC LIMIT 1", id).Scan(&before)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	for _, e := range events {
		sum := sha256.Sum256(e.AppendJSON([]byte(before)))
		hash := hex.EncodeToString(sum[:])
		_, err := tx.Exec(ctx, "INSERT INTO usual VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
			[16]byte(e.ID), e.Timestamp, e.Timestamp, e.EventType, e.Category, e.Action, e.Outcome, e.Actor.Type, e.Actor.Name, e.Resource.Kind, e.Resource.Name,
			e.CorrelationID, e.Resource.Namespace, e.Cluster, e.Severity, e.RetentionDays, string(e.Details), hash, before)
		if err != nil {
			return err
		}
		before = hash
	}
	return nil
}
