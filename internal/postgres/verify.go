package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// Verify checks the ledger in the database: its entries, and every column, id,
// hash and checkpoint beside them. All is as of one moment, while servers go on
// to append.
func (s *Store) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	conn, err := s.readers.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	defer conn.Release()
	target := "database " + s.readers.Config().ConnConfig.Database
	r, err := verifyIn(ctx, conn.Conn(), target, o)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", target, err)
	}
	return r, nil
}

// Verify checks the ledger in the database at dsn, which may be damaged.
func Verify(ctx context.Context, dsn string, o verify.Options) (*verify.Report, error) {
	config, err := configure(dsn)
	if err != nil {
		return nil, err
	}
	target := "database " + config.ConnConfig.Database
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", target, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkSchema(ctx, conn); err != nil {
		return nil, fmt.Errorf("verify %s: %w", target, err)
	}
	r, err := verifyIn(ctx, conn, target, o)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", target, err)
	}
	return r, nil
}

// verifyIn checks the ledger within one transaction.
func verifyIn(ctx context.Context, conn *pgx.Conn, target string, o verify.Options) (r *verify.Report, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	// It goes through everything, at the reader's pace. An erasure would leave
	// partitions empty for whoever had looked before and read them after it: the
	// lock comes before the first look.
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
		LOCK TABLE audit_events, audit_event_details IN ACCESS SHARE MODE`); err != nil {
		return nil, err
	}
	limit := o.MaxFindings
	if limit <= 0 {
		limit = 1000
	}
	t := &table{tx: tx, limit: limit}
	var size int64
	var chain, month string
	var checkpoint []byte
	if err := tx.QueryRow(ctx, "SELECT size, chain, coalesce(month::text, ''), checkpoint FROM ledger_head").Scan(&size, &chain, &month, &checkpoint); errors.Is(err, pgx.ErrNoRows) {
		t.found(verify.Missing, -1, "ledger_head", "there is no row that tells where the ledger ends")
	} else if err != nil {
		return nil, err
	}
	if r, err = verify.Rows(ctx, target, t, checkpoint, o); err != nil {
		return nil, err
	}
	if r.OK() {
		// Where entries are not those that were sealed, what is beside them
		// tells nothing more.
		t.keys = o.Keys
		t.every = o.EverySignature
		if err := t.checkBeside(ctx, size, chain, month); err != nil {
			return nil, err
		}
	}
	if !r.OK() && r.Pruned > 0 {
		t.keys = o.Keys
		if err := t.locate(ctx, r.Pruned); err != nil {
			return nil, err
		}
	}
	r.Findings = append(r.Findings, t.findings...)
	r.Omitted += t.omitted
	slices.SortStableFunc(r.Findings, func(a, b verify.Finding) int { return cmp.Compare(a.Index, b.Index) })
	return r, nil
}

// A table is the ledger's tables as they are verified.
type table struct {
	tx      pgx.Tx
	cursors int

	checkpoints int64
	limit       int
	keys        []note.Verifier
	every       bool // check each signature
	findings    []verify.Finding
	omitted     int64
}

func (t *table) found(kind verify.Kind, index int64, where, format string, args ...any) {
	if len(t.findings) >= t.limit {
		t.omitted++
		return
	}
	t.findings = append(t.findings, verify.Finding{Kind: kind, Index: index, Where: where, Message: fmt.Sprintf(format, args...)})
}

// Where implements [verify.Table].
func (t *table) Where(index int64) string {
	if index < 0 {
		return "ledger_head"
	}
	return fmt.Sprintf("audit_events: ledger_index %d", index)
}

// Rows implements [verify.Table].
func (t *table) Rows(ctx context.Context, fn func(r trail.Record, previous trail.Hash) error) error {
	return t.each(ctx, `SELECT e.ledger_index, e.event_hash, e.previous_event_hash, e.leaf_hash, e.pruned, e.entry, d.salt, d.erasable
		FROM audit_events e LEFT JOIN audit_event_details d ON d.ledger_index = e.ledger_index AND d.recorded_month = e.recorded_month
		ORDER BY e.ledger_index, e.recorded_month`, func(rows pgx.Rows) error {
		var r trail.Record
		var hash, before string
		var salt, leaf []byte
		var pruned bool
		if err := rows.Scan(&r.Index, &hash, &before, &leaf, &pruned, &r.Entry, &salt, &r.Erasable); err != nil {
			return err
		}
		copy(r.Salt[:], salt)
		if pruned {
			r.Leaf = leafOf(leaf)
		}
		// One that is no hash is not the entry's.
		r.Chain, _ = trail.ParseHex(hash)
		previous, _ := trail.ParseHex(before)
		return fn(r, previous)
	})
}

// each reads the rows of a query through a cursor.
func (t *table) each(ctx context.Context, sql string, fn func(pgx.Rows) error) (err error) {
	t.cursors++
	cursor := fmt.Sprintf("verifying%d", t.cursors) // what it fetches is remembered by its name
	if _, err := t.tx.Exec(ctx, "DECLARE "+cursor+" NO SCROLL CURSOR FOR "+sql); err != nil {
		return err
	}
	defer func() {
		if _, closeErr := t.tx.Exec(context.WithoutCancel(ctx), "CLOSE "+cursor); err == nil {
			err = closeErr
		}
	}()
	for {
		rows, err := t.tx.Query(ctx, "FETCH 1000 FROM "+cursor)
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			n++
			if err = fn(rows); err != nil {
				break
			}
		}
		if rows.Close(); err == nil {
			err = rows.Err()
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// checkBeside checks what stands beside entries that are those that were sealed.
func (t *table) checkBeside(ctx context.Context, size int64, chain, month string) error {
	var tree trail.Tree
	var last string
	var subtrees []subtree
	months, err := t.checkMonths(ctx)
	if err != nil {
		return err
	}
	err = t.each(ctx, `SELECT e.ledger_index, e.recorded_month::text, e.recorded_at, e.event_id, e.event_type, e.event_timestamp, e.event_nanos,
		e.event_category, e.event_action, e.event_outcome, e.actor_type, e.actor_id, e.resource_type, e.resource_id, e.namespace,
		e.cluster_id, e.correlation_id, e.severity, e.retention_days, e.source_name, e.source_epoch, e.source_seq, e.event_hash, e.leaf_hash, e.pruned, e.entry, coalesce(i.ledger_index, -1), c.checkpoint
		FROM audit_events e LEFT JOIN event_ids i ON i.event_id = e.event_id LEFT JOIN ledger_checkpoints c ON c.size = e.ledger_index + 1
		ORDER BY e.ledger_index`, func(rows pgx.Rows) error {
		var index, idIndex int64
		var in string
		var is row
		var leaf, entry, checkpoint []byte
		var pruned bool
		err := rows.Scan(&index, &in, &is.recordedAt, &is.id, &is.eventType, &is.timestamp, &is.nanos, &is.category, &is.action, &is.outcome,
			&is.actorType, &is.actor, &is.kind, &is.resource, &is.namespace, &is.cluster, &is.correlation, &is.severity, &is.retentionDays, &is.source, &is.epoch, &is.seq,
			&last, &leaf, &pruned, &entry, &idIndex, &checkpoint)
		if err != nil {
			return err
		}
		months.entry(index, in)
		e, _, err := event.ParseEntry(entry)
		is.recordedAt, is.timestamp = is.recordedAt.UTC(), is.timestamp.UTC()
		switch {
		case err != nil && !pruned:
			return fmt.Errorf("entry %d: %w", index, err)
		case err != nil: // the rows' check has named it
		case is != rowOf(e):
			t.found(verify.IndexMismatch, index, t.Where(index), "the column %s does not say what the entry says", differing(is, rowOf(e)))
		}
		if idIndex != index {
			t.found(verify.IndexMismatch, index, "event_ids", "the id of entry %d leads elsewhere, or nowhere", index)
		}
		hash := trail.LeafHash(entry)
		if pruned {
			hash = *leafOf(leaf)
		} else if !bytes.Equal(leaf, hash[:]) {
			t.found(verify.TileMismatch, index, t.Where(index), "leaf_hash is not that of the entry")
		}
		tree.Append(hash, func(level int, n int64, h trail.Hash) {
			if level > 0 && level%trail.TileHeight == 0 {
				subtrees = append(subtrees, subtree{level, n, h})
			}
		})
		if index == 0 {
			t.addCreated(entry)
		}
		if checkpoint != nil {
			t.checkCheckpoint(checkpoint, &tree)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if last != chain && size > 0 {
		t.found(verify.Changed, size-1, "ledger_head", "the head's chain is not the hash of the last entry")
	}
	if months.end(month); len(t.findings) == 0 {
		// What is counted is counted by columns: where those are wrong, it tells
		// nothing more.
		if err := t.checkSources(ctx, size); err != nil {
			return err
		}
	}
	if err := t.checkHashes(ctx, subtrees); err != nil {
		return err
	}
	return t.checkCounts(ctx, size)
}

// locate looks between which checkpoints the first hash below an index is not the
// one that was sealed, which the chain does not tell of an entry that was erased.
func (t *table) locate(ctx context.Context, below int64) error {
	var tree trail.Tree
	var good int64
	errLocated := errors.New("it is known")
	err := t.each(ctx, fmt.Sprintf(`SELECT e.ledger_index, e.leaf_hash, c.checkpoint, CASE WHEN e.ledger_index = 0 THEN e.entry END
		FROM audit_events e LEFT JOIN ledger_checkpoints c ON c.size = e.ledger_index + 1
		WHERE e.ledger_index < (SELECT min(size) FROM ledger_checkpoints WHERE size >= %d) ORDER BY e.ledger_index`, below), func(rows pgx.Rows) error {
		var index int64
		var leaf, checkpoint, entry []byte
		if err := rows.Scan(&index, &leaf, &checkpoint, &entry); err != nil {
			return err
		}
		if index != tree.Size() {
			return errLocated // one is missing, and was named
		}
		if index == 0 {
			t.addCreated(entry)
		}
		tree.Append(*leafOf(leaf), nil)
		c, err := trail.OpenCheckpoint(checkpoint, t.keys...)
		switch {
		case err != nil || c.Size != tree.Size():
			return nil // there is none here that tells anything
		case c.Root == tree.Root():
			good = c.Size
			return nil
		}
		t.found(verify.Changed, good, t.Where(good), "the leaf_hash of one of the entries from %d to %d, or more, is not the one that was sealed", good, index)
		return errLocated
	})
	if errors.Is(err, errLocated) {
		return nil
	}
	return err
}

// addCreated takes the key that the first entry names, where none was given.
func (t *table) addCreated(entry []byte) {
	if len(t.keys) > 0 {
		return
	}
	if _, text, err := trail.Created(entry); err == nil {
		if v, err := trail.ParseKey(text); err == nil {
			t.keys = append(t.keys, v)
		}
	}
}

// sampled is how many signatures are checked, unless all are asked for: checking
// one takes as long as hashing 30 entries, and vouches for nothing that the
// newest does not.
const sampled = 20_000

// checkCheckpoint checks the checkpoint of a tree.
func (t *table) checkCheckpoint(text []byte, tree *trail.Tree) {
	where := fmt.Sprintf("ledger_checkpoints: size %d", tree.Size())
	c, err := trail.ReadCheckpoint(text)
	if t.checkpoints++; err == nil && (t.every || t.checkpoints <= sampled) {
		_, err = trail.OpenCheckpoint(text, t.keys...)
	}
	switch {
	case err != nil:
		t.found(verify.BadSignature, tree.Size()-1, where, "%v", err)
	case c.Size != tree.Size() || c.Root != tree.Root():
		t.found(verify.Changed, tree.Size()-1, where, "it is not the checkpoint of these entries")
	}
}

// A subtree is a complete one of the tree, with its hash.
type subtree struct {
	level int
	n     int64
	hash  trail.Hash
}

func (h subtree) where() string { return fmt.Sprintf("ledger_hashes: level %d, n %d", h.level, h.n) }

// checkHashes holds the hashes in the database against those of the entries.
func (t *table) checkHashes(ctx context.Context, want []subtree) error {
	byPlace := func(a, b subtree) int { return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.n, b.n)) }
	slices.SortFunc(want, byPlace)
	err := t.each(ctx, "SELECT level, n, hash FROM ledger_hashes ORDER BY level, n", func(rows pgx.Rows) error {
		var is subtree
		var hash []byte
		if err := rows.Scan(&is.level, &is.n, &hash); err != nil {
			return err
		}
		for len(want) > 0 && byPlace(want[0], is) < 0 {
			t.missing(want[0])
			want = want[1:]
		}
		switch {
		case len(want) == 0 || byPlace(want[0], is) > 0:
			t.found(verify.TileMismatch, -1, is.where(), "there is no such hash")
			return nil
		case !bytes.Equal(hash, want[0].hash[:]):
			t.found(verify.TileMismatch, is.n<<is.level, is.where(), "the hash is not that of the entries")
		}
		want = want[1:]
		return nil
	})
	for _, h := range want {
		t.missing(h)
	}
	return err
}

func (t *table) missing(h subtree) {
	t.found(verify.TileMismatch, h.n<<h.level, h.where(), "the hash is missing")
}

// checkCounts looks for rows of entries that there are not.
func (t *table) checkCounts(ctx context.Context, size int64) error {
	for _, c := range []struct{ table, column, what string }{
		{"event_ids", "ledger_index", "an id"},
		{"audit_event_details", "ledger_index", "the details"},
		{"ledger_checkpoints", "size - 1", "the checkpoint"},
	} {
		err := t.each(ctx, fmt.Sprintf(`SELECT x.%[2]s FROM %[1]s x LEFT JOIN audit_events e ON e.ledger_index = x.%[2]s
			WHERE e.ledger_index IS NULL ORDER BY 1`, c.table, c.column), func(rows pgx.Rows) error {
			var index int64
			if err := rows.Scan(&index); err != nil {
				return err
			}
			t.found(verify.IndexMismatch, index, c.table, "%s of an entry that is not there", c.what)
			return nil
		})
		if err != nil {
			return err
		}
	}
	var ids int64
	if err := t.tx.QueryRow(ctx, "SELECT count(*) FROM event_ids").Scan(&ids); err != nil {
		return err
	}
	if ids != size {
		t.found(verify.IndexMismatch, -1, "event_ids", "there are %d ids of %d entries", ids, size)
	}
	return nil
}

// columns are the names of a row's fields in the database.
var columns = strings.Fields(`recorded_at event_id event_type event_timestamp event_nanos event_category event_action event_outcome
	actor_type actor_id resource_type resource_id namespace cluster_id correlation_id severity retention_days source_name source_epoch source_seq`)

// differing names the first column in which two rows differ.
func differing(a, b row) string {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if !va.Field(i).Equal(vb.Field(i)) {
			return columns[i]
		}
	}
	return ""
}
