package postgres

import (
	"time"

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

const appendSQL = `SELECT graven.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
	$21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)`

// rows are a pool as the columns of arrays that graven.append takes.
type rows struct {
	size       int64
	chain      string
	checkpoint []byte

	recordedAt                             []time.Time
	ids                                    [][16]byte
	types                                  []string
	timestamps                             []time.Time
	nanos                                  []int16
	categories, actions, outcomes          []string
	actorTypes, actors                     []string
	kinds, resources, namespaces, clusters []string
	correlations, severities               []string
	retentionDays                          []int32
	sources, epochs                        []string
	seqs                                   []int64
	hashes                                 []string
	leaves, entries, salts, erasables      [][]byte
	levels                                 []int16
	ns                                     []int64
	subtrees                               [][]byte
}

// set makes the rows those of a pool that extends head.
func (c *rows) set(head ledger.Head, p *ledger.Pool) {
	c.size, c.chain, c.checkpoint = head.Tree.Size(), trail.Hex(head.Chain), p.Head.Checkpoint.Note
	c.clear()
	c.hashes = append(c.hashes, c.chain)
	tree := head.Tree
	for i := range p.Records {
		r := &p.Records[i]
		c.add(rowOf(p.Events[i]))
		c.hashes = append(c.hashes, trail.Hex(r.Chain))
		c.leaves = append(c.leaves, p.Leaves[i][:])
		c.entries = append(c.entries, r.Entry)
		c.salts = append(c.salts, r.Salt[:])
		c.erasables = append(c.erasables, r.Erasable)
		tree.Append(p.Leaves[i], func(level int, n int64, h trail.Hash) {
			if level > 0 && level%trail.TileHeight == 0 {
				c.levels = append(c.levels, int16(level))
				c.ns = append(c.ns, n)
				c.subtrees = append(c.subtrees, h[:])
			}
		})
	}
}

func (c *rows) clear() {
	for _, column := range []*[]string{&c.types, &c.categories, &c.actions, &c.outcomes, &c.actorTypes, &c.actors, &c.kinds, &c.resources,
		&c.namespaces, &c.clusters, &c.correlations, &c.severities, &c.sources, &c.epochs, &c.hashes} {
		*column = (*column)[:0]
	}
	for _, column := range []*[][]byte{&c.leaves, &c.entries, &c.salts, &c.erasables, &c.subtrees} {
		*column = (*column)[:0]
	}
	c.recordedAt, c.ids, c.timestamps, c.nanos, c.retentionDays = c.recordedAt[:0], c.ids[:0], c.timestamps[:0], c.nanos[:0], c.retentionDays[:0]
	c.levels, c.ns, c.seqs = c.levels[:0], c.ns[:0], c.seqs[:0]
}

func (c *rows) add(r row) {
	c.recordedAt = append(c.recordedAt, r.recordedAt)
	c.ids = append(c.ids, r.id)
	c.types = append(c.types, r.eventType)
	c.timestamps = append(c.timestamps, r.timestamp)
	c.nanos = append(c.nanos, r.nanos)
	c.categories = append(c.categories, r.category)
	c.actions = append(c.actions, r.action)
	c.outcomes = append(c.outcomes, r.outcome)
	c.actorTypes = append(c.actorTypes, r.actorType)
	c.actors = append(c.actors, r.actor)
	c.kinds = append(c.kinds, r.kind)
	c.resources = append(c.resources, r.resource)
	c.namespaces = append(c.namespaces, r.namespace)
	c.clusters = append(c.clusters, r.cluster)
	c.correlations = append(c.correlations, r.correlation)
	c.severities = append(c.severities, r.severity)
	c.retentionDays = append(c.retentionDays, r.retentionDays)
	c.sources = append(c.sources, r.source)
	c.epochs = append(c.epochs, r.epoch)
	c.seqs = append(c.seqs, r.seq)
}

// args returns the arguments of appendSQL.
func (c *rows) args() []any {
	return []any{c.size, c.chain, c.checkpoint, c.recordedAt, c.ids, c.types, c.timestamps, c.nanos, c.categories, c.actions, c.outcomes,
		c.actorTypes, c.actors, c.kinds, c.resources, c.namespaces, c.clusters, c.correlations, c.severities, c.retentionDays,
		c.sources, c.epochs, c.seqs, c.hashes, c.leaves, c.entries, c.salts, c.erasables, c.levels, c.ns, c.subtrees}
}
