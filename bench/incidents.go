package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
)

// prepareLedgers makes a ledger in a directory, and one of as many events in a
// database.
func prepareLedgers(ctx context.Context, r *run) (end func(), err error) {
	if _, err := prepareLedger(0)(ctx, r); err != nil {
		return nil, err
	}
	if end, err = prepareServer(ctx, r); err != nil {
		return nil, err
	}
	if err = fillDatabase(ctx, r); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// keysOf names the directory of the keys of a ledger in a database, which stands
// beside that of the directory's ledger.
func keysOf(ledger string) string { return ledger + ".keys" }

// fillDatabase makes the ledger in a database.
func fillDatabase(ctx context.Context, r *run) error {
	dsn, _, err := makeDatabase(ctx, *r)
	if err != nil {
		return err
	}
	r.Database = dsn
	store, l, err := openDatabase(ctx, dsn, keysOf(r.Data))
	if err != nil {
		return err
	}
	for at := int64(0); at < r.Events && err == nil; {
		events := make([]*event.Event, min(1000, r.Events-at))
		for i := range events {
			events[i] = newEvent(at + int64(i))
		}
		_, _, err = l.Append(ctx, by, events)
		at += int64(len(events))
	}
	l.Close()
	return errors.Join(err, store.Close())
}

// directoryQuerier asks for incidents in a ledger that nobody writes to.
func directoryQuerier(r run) (Sample, error) {
	o, err := openLedger(r.Data)
	if err != nil {
		return Sample{}, err
	}
	s, err := askIncidents(r, search.Finder{Index: o.store, Reader: o.store}, o.ledger.State().Size())
	return s, errors.Join(err, o.close())
}

// databaseQuerier asks the same of a ledger in a database.
func databaseQuerier(r run) (Sample, error) {
	store, l, err := openDatabase(context.Background(), r.Database, keysOf(r.Data))
	if err != nil {
		return Sample{}, err
	}
	s, err := askIncidents(r, search.Finder{Index: store, Reader: store}, l.State().Size())
	l.Close()
	return s, errors.Join(err, store.Close())
}

// askIncidents asks for one incident after the other.
func askIncidents(r run, finder search.Finder, size int64) (Sample, error) {
	var s Sample
	var all []time.Duration
	m := startMeter()
	for end := time.Now().Add(r.Duration); time.Now().Before(end); {
		f := search.Filter{CorrelationID: newEvent(rand.Int64N(r.Events)).CorrelationID}
		began := time.Now()
		a, err := finder.Page(context.Background(), &f, search.Page{Limit: 100, Cursor: -1}, size)
		if err != nil {
			return s, err
		}
		if len(a.Hits) == 0 {
			return s, errors.New("an incident is not found")
		}
		all = append(all, time.Since(began))
	}
	m.stop(&s)
	s.Ops = int64(len(all))
	s.latencies(all)
	return s, nil
}
