package postgres

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
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
	values := [][]byte{a.size, a.chain, a.checkpoint, a.entries.end(), a.ids.end(), a.salts.end(), a.erasables.end(), a.levels.end(), a.ns.end(), a.subtrees.end()}
	formats := make([]int16, len(values))
	for i := range formats {
		formats[i] = pgx.BinaryFormatCode
	}
	return conn.PgConn().ExecPrepared(ctx, appendStatement, values, formats, nil).Read().Err
}

// Numbers of PostgreSQL's own types.
const (
	typeBool   = 16
	typeBytes  = 17
	typeInt8   = 20
	typeInt2   = 21
	typeInt4   = 23
	typeText   = 25
	typeMoment = 1184
	typeUUID   = 2950
)

// Arguments are those of graven.append, in PostgreSQL's binary format. What
// encodes them in general takes longer than the ledger does for all else.
type arguments struct {
	entryType uint32

	size, chain, checkpoint []byte
	entries                 array
	ids, salts, erasables   array
	levels, ns, subtrees    array
}

// set makes the arguments those of a pool that extends head.
func (a *arguments) set(head ledger.Head, p *ledger.Pool) {
	a.size = binary.BigEndian.AppendUint64(a.size[:0], uint64(head.Tree.Size()))
	before := trail.Hex(head.Chain)
	a.chain, a.checkpoint = append(a.chain[:0], before...), p.Head.Checkpoint.Note
	a.entries.begin(a.entryType)
	a.ids.begin(typeUUID)
	a.salts.begin(typeBytes)
	a.erasables.begin(typeBytes)
	a.levels.begin(typeInt2)
	a.ns.begin(typeInt8)
	a.subtrees.begin(typeBytes)
	tree := head.Tree
	for i := range p.Records {
		r := &p.Records[i]
		row, hash := rowOf(p.Events[i]), trail.Hex(r.Chain)
		a.entries.row(&row, hash, before, p.Leaves[i][:], r.Entry, r.Leaf != nil)
		before = hash
		a.ids.add(row.id[:])
		a.salts.add(r.Salt[:])
		a.erasables.add(r.Erasable)
		tree.Append(p.Leaves[i], func(level int, n int64, h trail.Hash) {
			if level > 0 && level%trail.TileHeight == 0 {
				a.levels.add(binary.BigEndian.AppendUint16(nil, uint16(level)))
				a.ns.add(binary.BigEndian.AppendUint64(nil, uint64(n)))
				a.subtrees.add(h[:])
			}
		})
	}
}

// An array is one of PostgreSQL's, of one dimension.
type array struct {
	buf []byte
	n   uint32
}

// arrayHead is the size of what stands before the elements: the number of
// dimensions, whether there are nulls, the type, the number of elements, and the
// index of the first.
const arrayHead = 5 * 4

// maxKept bounds the memory that is kept for the next pool, in bytes.
const maxKept = 8 << 20

func (a *array) begin(elements uint32) {
	if cap(a.buf) > maxKept {
		a.buf = nil
	}
	a.n, a.buf = 0, append(a.buf[:0], make([]byte, arrayHead)...)
	binary.BigEndian.PutUint32(a.buf[8:], elements)
}

// add adds an element; nil is null.
func (a *array) add(b []byte) {
	a.n++
	if b == nil {
		a.buf = binary.BigEndian.AppendUint32(a.buf, null)
		return
	}
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(b))), b...)
}

// null stands for the length of what is null.
const null = 1<<32 - 1

// end returns the array.
func (a *array) end() []byte {
	if a.n == 0 {
		return a.buf[:3*4] // of no dimension
	}
	for i, v := range []uint32{1, 1} {
		binary.BigEndian.PutUint32(a.buf[4*i:], v)
	}
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	binary.BigEndian.PutUint32(a.buf[16:], 1)
	return a.buf
}

// row adds an element of the type graven.new_entry.
func (a *array) row(r *row, hash, before string, leaf, entry []byte, pruned bool) {
	at := len(a.buf)
	a.n++
	const columns = 25
	a.buf = binary.BigEndian.AppendUint32(append(a.buf, 0, 0, 0, 0), columns)
	a.moment(r.recordedAt)
	a.column(typeUUID, len(r.id))
	a.buf = append(a.buf, r.id[:]...)
	a.text(r.eventType)
	a.moment(r.timestamp)
	a.column(typeInt2, 2)
	a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(r.nanos))
	for _, s := range [...]string{r.category, r.action, r.outcome, r.actorType, r.actor, r.kind, r.resource, r.namespace, r.cluster, r.correlation, r.severity} {
		a.text(s)
	}
	a.column(typeInt4, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(r.retentionDays))
	a.text(r.source)
	a.text(r.epoch)
	a.column(typeInt8, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(r.seq))
	a.text(hash)
	a.text(before)
	a.column(typeBytes, len(leaf))
	a.buf = append(a.buf, leaf...)
	a.column(typeBytes, len(entry))
	a.buf = append(a.buf, entry...)
	a.column(typeBool, 1)
	a.buf = append(a.buf, 0)
	if pruned {
		a.buf[len(a.buf)-1] = 1
	}
	binary.BigEndian.PutUint32(a.buf[at:], uint32(len(a.buf)-at-4))
}

// column begins a column of an element.
func (a *array) column(of uint32, size int) {
	a.buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a.buf, of), uint32(size))
}

func (a *array) text(s string) {
	a.column(typeText, len(s))
	a.buf = append(a.buf, s...)
}

// moment adds a column of a time, of which there are whole microseconds.
func (a *array) moment(t time.Time) {
	a.column(typeMoment, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(t.UnixMicro()-epoch))
}

// epoch is where PostgreSQL's time begins, 2000-01-01, in microseconds of ours.
const epoch = 946_684_800_000_000
