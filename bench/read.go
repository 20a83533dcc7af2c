package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// fill makes a ledger of n events in dir.
func fill(ctx context.Context, dir string, n int64) error {
	o, err := openLedger(dir)
	if err != nil {
		return err
	}
	for at := int64(0); at < n; {
		events := make([]*event.Event, min(1000, n-at))
		for i := range events {
			events[i] = newEvent(at + int64(i))
		}
		if o.store.Lag() > 200_000 {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if _, _, err := o.ledger.Append(ctx, by, events); err != nil {
			return err
		}
		at += int64(len(events))
	}
	for o.store.Lag() > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	return o.close()
}

// prepareLedger makes the ledger that the runs of a contest share.
func prepareLedger(n int64) func(context.Context, *run) (func(), error) {
	return func(ctx context.Context, r *run) (func(), error) {
		if n > 0 {
			r.Events = n
		}
		r.Data = filepath.Join(r.Dir, "shared")
		return nil, fill(ctx, r.Data, r.Events)
	}
}

// follower derives the index and the hashes of a ledger anew.
func follower(r run) (Sample, error) {
	dir := filepath.Join(r.Dir, "ledger")
	for _, sub := range []string{"keys", "log"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(r.Data, sub))); err != nil {
			return Sample{}, err
		}
	}
	tip, err := os.ReadFile(filepath.Join(r.Data, trail.TipFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, trail.TipFile), tip, 0o600)
	}
	if err != nil {
		return Sample{}, err
	}
	keys, err := keyring.Load(dir)
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Ops: r.Events}
	m := startMeter()
	store, err := filestore.Open(dir, filestore.Options{Verifier: keys.Verifier})
	m.stop(&s)
	if err != nil {
		return s, err
	}
	return s, store.Close()
}

// openTable makes a table with a row for each event and the indexes that
// answer the same questions as ours.
func openTable(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=cache_size(-64000)&_pragma=temp_store(memory)")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(`CREATE TABLE events (idx INTEGER PRIMARY KEY, id BLOB, ts INTEGER, type TEXT, severity TEXT, outcome TEXT, actor TEXT,
		correlation TEXT, namespace TEXT, kind TEXT, resource TEXT, body TEXT);
		CREATE UNIQUE INDEX events_id ON events (id);
		CREATE INDEX events_ts ON events (ts);
		CREATE INDEX events_type ON events (type);
		CREATE INDEX events_severity ON events (severity);
		CREATE INDEX events_actor ON events (actor);
		CREATE INDEX events_correlation ON events (correlation);
		CREATE INDEX events_namespace ON events (namespace);
		CREATE INDEX events_resource ON events (resource)`)
	return db, err
}

// insertRows inserts the rows of n events, with or without their JSON.
func insertRows(ctx context.Context, db *sql.DB, n int64, bodies bool) error {
	const perStatement = 8 // the driver's best
	for at := int64(0); at < n; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		stmt, err := tx.Prepare("INSERT INTO events VALUES " + strings.TrimPrefix(strings.Repeat(",(?,?,?,?,?,?,?,?,?,?,?,?)", perStatement), ","))
		if err != nil {
			return err
		}
		for end := min(n, at+20_000); at < end; {
			var args []any
			for i := range int64(perStatement) {
				e := newEvent(at + i)
				var body any
				if bodies {
					e.Complete(e.Timestamp)
					body = string(e.AppendJSON(nil))
				}
				args = append(args, at+i, e.ID[:], e.Timestamp.UnixNano(), e.EventType, e.Severity, e.Outcome, e.Actor.Name,
					e.CorrelationID, e.Resource.Namespace, e.Resource.Kind, e.Resource.Name, body)
			}
			if _, err := stmt.Exec(args...); err != nil {
				return err
			}
			at += perStatement
		}
		if err := errors.Join(stmt.Close(), tx.Commit()); err != nil {
			return err
		}
	}
	return nil
}

// sqliteInsert inserts the rows of the same events into a table.
func sqliteInsert(r run) (Sample, error) {
	db, err := openTable(filepath.Join(r.Dir, "table.db"))
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Ops: r.Events}
	m := startMeter()
	err = insertRows(context.Background(), db, r.Events, false)
	m.stop(&s)
	return s, errors.Join(err, db.Close())
}

// verifier verifies a directory, the index aside.
func verifier(r run) (Sample, error) {
	keys, err := keyring.Load(r.Data)
	if err != nil {
		return Sample{}, err
	}
	var s Sample
	m := startMeter()
	report, err := verify.Dir(context.Background(), r.Data, verify.Options{Keys: []note.Verifier{keys.Verifier}})
	m.stop(&s)
	if err == nil && !report.OK() {
		err = fmt.Errorf("it does not verify: %v", report.Findings[0])
	}
	if err == nil {
		s.Ops = report.Entries
	}
	return s, err
}

// bareHashing hashes as many bytes, in as many pieces, as a verifier must.
func bareHashing(r run) (Sample, error) {
	e := newEvent(1)
	e.Complete(e.Timestamp)
	e.Recorded = event.Recorded{At: e.Timestamp, Principal: by.Principal, Via: by.Via, Attribution: event.AttributionAsserted}
	entry, details := len(e.AppendEntry(nil, e.Digests(event.Salt{}))), len(e.Details)
	buf := make([]byte, 64<<10)
	s := Sample{Ops: r.Events}
	m := startMeter()
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int64(w); i < r.Events; i += int64(runtime.GOMAXPROCS(0)) {
				sha256.Sum256(buf[:64+entry])   // chain
				sha256.Sum256(buf[:1+entry])    // leaf
				sha256.Sum256(buf[:16+details]) // digest
				sha256.Sum256(buf[:65])         // node
			}
		})
	}
	wg.Wait()
	m.stop(&s)
	return s, nil
}

// prover proves entries by the hashes that the store keeps.
func prover(r run) (Sample, error) {
	keys, err := keyring.Load(r.Data)
	if err != nil {
		return Sample{}, err
	}
	store, err := filestore.Open(r.Data, filestore.Options{Verifier: keys.Verifier})
	if err != nil {
		return Sample{}, err
	}
	head := store.Head()
	s, err := prove(r, head.Tree.Size(), store)
	return s, errors.Join(err, store.Close())
}

// memoryProver proves entries by hashes in memory.
func memoryProver(r run) (Sample, error) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for n := range r.Events {
		more, err := tlog.StoredHashesForRecordHash(n, tlog.RecordHash([]byte{byte(n), byte(n >> 8), byte(n >> 16)}), reader)
		if err != nil {
			return Sample{}, err
		}
		hashes = append(hashes, more...)
	}
	return prove(r, r.Events, reader)
}

func prove(r run, size int64, h tlog.HashReader) (Sample, error) {
	var s Sample
	rng := rand.New(rand.NewPCG(1, 2))
	m := startMeter()
	for end := time.Now().Add(r.Duration); time.Now().Before(end); s.Ops++ {
		if _, err := tlog.ProveRecord(size, rng.Int64N(size), h); err != nil {
			return s, err
		}
	}
	m.stop(&s)
	return s, nil
}

// weigher weighs a ledger of realistic events against their JSON.
func weigher(r run) (Sample, error) {
	dir := filepath.Join(r.Dir, "ledger")
	o, err := openLedger(dir)
	if err != nil {
		return Sample{}, err
	}
	var raw, n int64
	for n < r.Events {
		var events []*event.Event
		for _, e := range realistic(n) {
			raw += int64(len(e.AppendJSON(nil)))
			events = append(events, e)
		}
		if _, _, err := o.ledger.Append(context.Background(), by, events); err != nil {
			return Sample{}, err
		}
		n += int64(len(events))
	}
	s := Sample{Ops: n}
	o.settle(&s)
	if err := o.close(); err != nil {
		return s, err
	}
	var all int64
	parts := map[string]int64{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			name, _, _ := strings.Cut(strings.TrimPrefix(path, dir+"/"), "/")
			parts[name] += info.Size()
			all += info.Size()
		}
		return err
	})
	for name, size := range parts {
		if size > all/100 {
			s.note(name+" B/event", float64(size)/float64(n))
		}
	}
	s.note("raw B/event", float64(raw)/float64(n))
	s.note("of raw", float64(all)/float64(raw))
	return s, err
}

// exporter reads the whole export of a server.
func exporter(r run) (Sample, error) {
	srv, err := startGraven(r.Graven, r.Data)
	if err != nil {
		return Sample{}, err
	}
	var s Sample
	before, began := cpuOf(srv.cmd.Process.Pid), time.Now()
	req, err := http.NewRequest(http.MethodGet, srv.url+"/api/v1/audit/export?checkpoint=true", nil)
	if err != nil {
		return s, err
	}
	req.Header.Set("Authorization", "Bearer "+srv.token)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		s.Ops, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	s.Wall, s.CPU = time.Since(began), cpuOf(srv.cmd.Process.Pid)-before
	s.Peak = memory(srv.cmd.Process.Pid, "VmHWM")
	return s, errors.Join(err, srv.stop())
}

// dumper reads all rows of a table and writes them as statements.
func dumper(r run) (Sample, error) {
	db, err := sql.Open("sqlite", "file:"+tableBeside(r.Data)+"?_pragma=query_only(true)")
	if err != nil {
		return Sample{}, err
	}
	defer db.Close()
	var s Sample
	m := startMeter()
	rows, err := db.Query("SELECT * FROM events ORDER BY idx")
	if err != nil {
		return s, err
	}
	defer rows.Close()
	values := make([]sql.RawBytes, 12)
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	var line []byte
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return s, err
		}
		line = append(line[:0], "INSERT INTO events VALUES("...)
		for i, v := range values {
			if i > 0 {
				line = append(line, ',')
			}
			line = fmt.Appendf(line, "'%s'", strings.ReplaceAll(string(v), "'", "''"))
		}
		line = append(line, ");\n"...)
		n, err := io.Discard.Write(line)
		s.Ops += int64(n)
		if err != nil {
			return s, err
		}
	}
	m.stop(&s)
	return s, rows.Err()
}

// querier asks for incidents while events come in at r.Rate, into the ledger that
// all rounds share: to write a copy of it would keep the disk busy for minutes.
func querier(r run) (Sample, error) {
	o, err := openLedger(r.Data)
	if err != nil {
		return Sample{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Duration)
	defer cancel()
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		const batch = 100
		began := time.Now()
		for n := int64(0); ctx.Err() == nil; n += batch {
			time.Sleep(time.Until(began.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))))
			events := make([]*event.Event, batch)
			for i := range events {
				events[i] = newEvent(r.Events + n + int64(i))
			}
			if _, _, err := o.ledger.Append(context.Background(), by, events); err != nil {
				failed = err
				return
			}
		}
	})
	finder := search.Finder{Index: o.store, Reader: o.store}
	var s Sample
	var all []time.Duration
	m := startMeter()
	for ctx.Err() == nil {
		f := search.Filter{CorrelationID: newEvent(rand.Int64N(r.Events)).CorrelationID}
		began := time.Now()
		a, err := finder.Page(context.Background(), &f, search.Page{Limit: 100, Cursor: -1}, o.ledger.State().Size())
		if err != nil {
			return s, err
		}
		if len(a.Hits) == 0 {
			return s, errors.New("an incident is not found")
		}
		all = append(all, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	m.stop(&s)
	wg.Wait()
	s.Ops = int64(len(all))
	s.latencies(all)
	s.note("lag events", float64(o.store.Lag()))
	return s, errors.Join(failed, o.close())
}

// idleQuerier asks the same of a table that nobody writes to.
func idleQuerier(r run) (Sample, error) {
	path := tableBeside(r.Data)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=query_only(true)&_pragma=cache_size(-64000)")
	if err != nil {
		return Sample{}, err
	}
	defer db.Close()
	stmt, err := db.Prepare("SELECT body FROM events WHERE correlation = ? ORDER BY idx DESC LIMIT 100")
	if err != nil {
		return Sample{}, err
	}
	var s Sample
	var all []time.Duration
	m := startMeter()
	for end := time.Now().Add(r.Duration); time.Now().Before(end); {
		id := newEvent(rand.Int64N(r.Events)).CorrelationID
		began := time.Now()
		rows, err := stmt.Query(id)
		if err != nil {
			return s, err
		}
		found := 0
		for rows.Next() {
			var body string
			if err := rows.Scan(&body); err != nil {
				return s, err
			}
			found++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil || found == 0 {
			return s, fmt.Errorf("%d rows, %w", found, err)
		}
		all = append(all, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	m.stop(&s)
	s.Ops = int64(len(all))
	s.latencies(all)
	return s, nil
}

// prepareTable makes the ledger and the table of the same events.
func prepareTable(ctx context.Context, r *run) (func(), error) {
	if _, err := prepareLedger(0)(ctx, r); err != nil {
		return nil, err
	}
	db, err := openTable(tableBeside(r.Data))
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(insertRows(ctx, db, r.Events, true), db.Close())
}

// tableBeside names the table of a shared ledger's rows, which stands beside it.
func tableBeside(ledger string) string { return ledger + ".table.db" }

// starter kills a server and measures how long the next needs to its first
// write, and what memory it takes at rest and at r.Rate.
func starter(r run) (Sample, error) {
	dir := filepath.Join(r.Dir, "data")
	if err := os.CopyFS(dir, os.DirFS(r.Data)); err != nil {
		return Sample{}, err
	}
	var s Sample
	for range 2 { // the first makes the tokens
		began := time.Now()
		srv, err := startGraven(r.Graven, dir)
		if err != nil {
			return s, err
		}
		p := newPoster(srv, r)
		if err := p.post(body(r, time.Now().UnixNano())); err != nil {
			return s, err
		}
		s.note("cold start s", time.Since(began).Seconds())
		time.Sleep(time.Second)
		s.note("MB at rest", float64(memory(srv.cmd.Process.Pid, "VmRSS"))/1e6)
		load := r
		load.Rate /= float64(r.Batch)
		if _, err := openLoop(load, func(n int64) error { return p.post(body(r, time.Now().UnixNano()>>8+n)) }); err != nil {
			return s, err
		}
		s.note("MB under load", float64(memory(srv.cmd.Process.Pid, "VmRSS"))/1e6)
		if err := srv.cmd.Process.Kill(); err != nil {
			return s, err
		}
		srv.cmd.Wait() // it was killed
	}
	s.Ops, s.Wall, s.CPU = 1, time.Second, time.Second
	return s, nil
}
