package postgres

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/pgarray"
	"github.com/graven-audit/graven/trail"
)

// A row is what the columns of audit_events say of an event, in their order.
type row struct {
	recordedAt    time.Time
	id            [16]byte
	eventType     string
	timestamp     time.Time
	nanos         int16
	category      string
	action        string
	outcome       string
	actorType     string
	actor         string
	kind          string
	resource      string
	namespace     string
	cluster       string
	correlation   string
	severity      string
	retentionDays int32
	source, epoch string
	seq           int64
}

// rowOf derives an event's row.
func rowOf(e *event.Event) row {
	at, nanos := split(e.Timestamp)
	return row{e.Recorded.At, e.ID, e.EventType, at, nanos, e.Category, e.Action, e.Outcome, e.Actor.Type, e.Actor.Name,
		e.Resource.Kind, e.Resource.Name, e.Resource.Namespace, e.Cluster, e.CorrelationID, e.Severity, int32(e.RetentionDays),
		e.Source.Name, e.Source.Epoch, e.Source.Seq}
}

// split returns a time as the database keeps it: in microseconds, and the
// nanoseconds beyond.
func split(t time.Time) (time.Time, int16) {
	at := t.Truncate(time.Microsecond)
	return at, int16(t.Sub(at))
}

// prepare prepares a connection to append pools, and learns the number of the
// type of entries, which each database has another of.
func (a *arguments) prepare(ctx context.Context, conn *pgx.Conn) error {
	if err := conn.QueryRow(ctx, "SELECT 'graven.new_entry'::regtype::oid").Scan(&a.entryType); err != nil {
		return err
	}
	_, err := conn.Prepare(ctx, appendStatement, "SELECT graven.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
	return err
}

// appendStatement is the name of the statement that appends a pool.
const appendStatement = "append"

// exec appends the pool.
func (a *arguments) exec(ctx context.Context, conn *pgx.Conn) error {
	values := [][]byte{a.size, a.chain, a.checkpoint, a.entries.End(), a.ids.End(), a.salts.End(), a.erasables.End(), a.levels.End(), a.ns.End(), a.subtrees.End()}
	formats := make([]int16, len(values))
	for i := range formats {
		formats[i] = pgx.BinaryFormatCode
	}
	return conn.PgConn().ExecPrepared(ctx, appendStatement, values, formats, nil).Read().Err
}

// Arguments are those of graven.append, in PostgreSQL's binary format.
type arguments struct {
	entryType uint32

	size, chain, checkpoint []byte
	entries                 pgarray.Array
	ids, salts, erasables   pgarray.Array
	levels, ns, subtrees    pgarray.Array
}

// set makes the arguments those of a pool that extends head.
func (a *arguments) set(head ledger.Head, p *ledger.Pool) {
	a.size = binary.BigEndian.AppendUint64(a.size[:0], uint64(head.Tree.Size()))
	before := trail.Hex(head.Chain)
	a.chain, a.checkpoint = append(a.chain[:0], before...), p.Head.Checkpoint.Note
	a.entries.Begin(a.entryType)
	a.ids.Begin(pgarray.UUID)
	a.salts.Begin(pgarray.Bytes)
	a.erasables.Begin(pgarray.Bytes)
	a.levels.Begin(pgarray.Int2)
	a.ns.Begin(pgarray.Int8)
	a.subtrees.Begin(pgarray.Bytes)
	tree := head.Tree
	for i := range p.Records {
		r := &p.Records[i]
		row, hash := rowOf(p.Events[i]), trail.Hex(r.Chain)
		a.addRow(&row, hash, before, p.Leaves[i][:], r.Entry, r.Leaf != nil)
		before = hash
		a.ids.Add(row.id[:])
		a.salts.Add(r.Salt[:])
		a.erasables.Add(r.Erasable)
		tree.Append(p.Leaves[i], func(level int, n int64, h trail.Hash) {
			if level > 0 && level%trail.TileHeight == 0 {
				a.levels.Add(binary.BigEndian.AppendUint16(nil, uint16(level)))
				a.ns.Add(binary.BigEndian.AppendUint64(nil, uint64(n)))
				a.subtrees.Add(h[:])
			}
		})
	}
}

// addRow adds an element of the type graven.new_entry.
func (a *arguments) addRow(r *row, hash, before string, leaf, entry []byte, pruned bool) {
	e := &a.entries
	e.BeginRow(25)
	e.Moment(r.recordedAt)
	e.Column(pgarray.UUID, r.id[:])
	e.Text(r.eventType)
	e.Moment(r.timestamp)
	e.Int2(r.nanos)
	for _, s := range [...]string{r.category, r.action, r.outcome, r.actorType, r.actor, r.kind, r.resource, r.namespace, r.cluster, r.correlation, r.severity} {
		e.Text(s)
	}
	e.Int4(r.retentionDays)
	e.Text(r.source)
	e.Text(r.epoch)
	e.Int8(r.seq)
	e.Text(hash)
	e.Text(before)
	e.Column(pgarray.Bytes, leaf)
	e.Column(pgarray.Bytes, entry)
	e.Bool(pruned)
	e.EndRow()
}
