package finding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// A Keeper has an inspector follow a ledger, records what it finds, and looks from time
// to time for what no entry shows. All fields without a default are required.
type Keeper struct {
	Ledger *ledger.Ledger
	Find   *search.Finder
	// Store finds what was recorded before.
	Store interface {
		Find(ctx context.Context, ids []event.ID, indexes []int64) error
	}
	// Book has the findings that stand.
	Book *Book
	// Gaps tells what is missing.
	Gaps *Finder
	// File is where it is kept how far was inspected. Losing it costs the time to
	// inspect all again; nothing is recorded twice.
	File   string
	Origin string
	Custom []Rule
	// Opened is told of each finding that was recorded; nil for nobody.
	Opened func(rule, severity string)
	Now    func() time.Time
	Log    *slog.Logger
}

const (
	// batch is how many entries are inspected before what was found is recorded.
	batch = 2000
	// tick is how often it is looked for what no entry shows.
	tick = 5 * time.Minute
	// overdue is how old the newest good verification may be.
	overdue = 25 * time.Hour
	pause   = 2 * time.Second
)

// state is what a keeper keeps on disk.
type state struct {
	Origin string `json:"origin"`
	Next   int64  `json:"next"`
}

// Run inspects until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	x := NewInspector(k.Find, k.Origin, k.Custom)
	next, err := k.load()
	if err != nil {
		k.Log.Warn("what was inspected is inspected again", "error", err)
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		st := k.Ledger.State()
		changed := st.Changed()
		done, err := k.inspect(ctx, x, next, st.Size())
		if err == nil {
			next = done
			select {
			case <-ctx.Done():
			case <-changed:
				settle(ctx, 200*time.Millisecond) // let some come together
			case <-ticker.C:
				if err := k.Tick(ctx, st.Size()); err != nil && ctx.Err() == nil {
					k.Log.Warn("could not look for what is overdue or missing", "error", err)
				}
			}
			continue
		}
		if next = done; ctx.Err() == nil {
			k.Log.Warn("could not inspect the ledger, trying again", "next", next, "error", err)
			x = NewInspector(k.Find, k.Origin, k.Custom) // whose memory may be ahead
			settle(ctx, pause)
		}
	}
}

// Look goes on from where was inspected last to the end of the ledger as it is now.
func (k *Keeper) Look(ctx context.Context) error {
	next, err := k.load()
	if err == nil {
		_, err = k.inspect(ctx, NewInspector(k.Find, k.Origin, k.Custom), next, k.Ledger.State().Size())
	}
	return err
}

func settle(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// inspect goes on from next to size, and returns how far it came: what it found up to
// there is recorded.
func (k *Keeper) inspect(ctx context.Context, x *Inspector, next, size int64) (int64, error) {
	begin, err := k.Find.Begin(ctx)
	if err != nil {
		return next, err
	}
	next = max(next, begin)
	for next < size {
		end := min(next+batch, size)
		if err := k.Find.Ready(ctx, end); err != nil {
			return next, err
		}
		var events []*event.Event
		at := next
		err := k.Find.Reader.Records(ctx, search.Range{First: next, End: end}, func(r *trail.Record) error {
			more, err := x.Inspect(ctx, r)
			if errors.Is(err, search.ErrChanged) { // of an earlier one, which has its own finding
				k.Log.Error("an entry cannot be judged", "entry", r.Index, "error", err)
				err = nil
			}
			events, at = append(events, more...), r.Index+1
			return err
		})
		if errors.Is(err, search.ErrChanged) { // nobody is to be kept from the rest by it
			events, end, err = append(events, k.damaged(at)), at+1, nil
		}
		if err == nil {
			err = k.record(ctx, events)
		}
		if err == nil {
			err = k.save(end)
		}
		if err != nil {
			return next, err
		}
		next = end
	}
	return next, nil
}

// record records events of the ledger's own, each once whoever else does.
func (k *Keeper) record(ctx context.Context, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	ids := make([]event.ID, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	known := make([]int64, len(ids))
	if err := k.Store.Find(ctx, ids, known); err != nil {
		return fmt.Errorf("look for findings: %w", err)
	}
	for i, e := range events {
		if known[i] >= 0 {
			continue
		}
		err := k.Ledger.Own(ctx, e)
		if errors.Is(err, ledger.ErrConflict) {
			continue // another server was faster
		}
		if err != nil {
			return fmt.Errorf("record %s: %w", e.EventType, err)
		}
		if e.EventType == typeOpened && k.Opened != nil {
			var d said
			if err := json.Unmarshal(e.Details, &d); err != nil {
				return fmt.Errorf("read %s: %w", e.EventType, err)
			}
			k.Opened(d.Rule, e.Severity)
		}
	}
	return nil
}

func (k *Keeper) load() (int64, error) {
	text, err := os.ReadFile(k.File)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var s state
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", k.File, err)
	}
	if s.Origin != k.Origin || s.Next < 0 || s.Next > k.Ledger.State().Size() {
		return 0, nil // of another ledger
	}
	return s.Next, nil
}

func (k *Keeper) save(next int64) error {
	text, err := json.Marshal(state{k.Origin, next})
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(k.File), filepath.Base(k.File)+".*")
	if err != nil {
		return fmt.Errorf("keep how far was inspected: %w", err)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), k.File)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep how far was inspected: %w", err), os.Remove(file.Name()))
	}
	return nil
}

// damaged returns the finding that an entry is not what was recorded.
func (k *Keeper) damaged(index int64) *event.Event {
	rule := find("verification-failed")
	id := idOf(k.Origin, rule.Name, fmt.Sprint("entry ", index)).String()
	e := &event.Event{ID: event.DeriveID(typeOpened, id, ""), EventType: typeOpened, Timestamp: k.Now().UTC(), Severity: rule.Severity,
		Actor: event.Actor{Type: event.ActorSystem, Name: "graven"}, Resource: event.Resource{Kind: kind, Name: id}}
	set(e, map[string]any{"rule": rule.Name, "title": rule.Title, "says": fmt.Sprintf("entry %d was changed where it is kept", index),
		"happenedAt": event.FormatTime(e.Timestamp), "evidence": []int64{index}})
	return e
}

// A lack is something that no entry shows.
type lack struct {
	rule, subject, says string
	at                  time.Time
}

// Tick looks for what no entry shows: a verification that is overdue, sources that fell
// silent, numbers that are missing. What is so no longer is withdrawn.
func (k *Keeper) Tick(ctx context.Context, size int64) error {
	now := k.Now().UTC()
	var lacks []lack
	last, err := k.verified(ctx, size, now)
	if err != nil {
		return err
	}
	if now.Sub(last) > overdue {
		lacks = append(lacks, lack{"verification-overdue", event.FormatTime(last), "the whole ledger was last found good, or began, at " + event.FormatTime(last), last.Add(overdue)})
	}
	gaps, err := k.Gaps.lost(ctx, size)
	if err != nil {
		return err
	}
	for _, s := range gaps.Silent {
		lacks = append(lacks, lack{"source-gap", fmt.Sprintf("silent/%s/%s/%d", s.Source, s.Epoch, s.Last.Index), s.Source + " is silent since " + event.FormatTime(s.Since), s.Since})
	}
	for _, m := range gaps.Missing {
		lacks = append(lacks, lack{"source-gap", fmt.Sprintf("missing/%s/%s/%d", m.Source, m.Epoch, m.From), fmt.Sprintf("%s: numbers %d to %d are missing", m.Source, m.From, m.To), now})
	}
	return k.timed(ctx, lacks, gaps.More, now, size)
}

// timed opens findings of what is lacking, and withdraws those of what no longer is,
// unless more is lacking than is named.
func (k *Keeper) timed(ctx context.Context, lacks []lack, more bool, now time.Time, size int64) error {
	var events []*event.Event
	about := func(eventType, id, severity string, details map[string]any) {
		e := &event.Event{ID: event.DeriveID(eventType, id, "timed"), EventType: eventType, Timestamp: now, Severity: severity,
			Actor: event.Actor{Type: event.ActorSystem, Name: "graven"}, Resource: event.Resource{Kind: kind, Name: id}}
		set(e, details)
		events = append(events, e)
	}
	lacking := map[string]bool{}
	for _, l := range lacks {
		id, rule := idOf(k.Origin, l.rule, l.subject).String(), find(l.rule)
		lacking[id] = true
		about(typeOpened, id, rule.Severity, map[string]any{"rule": rule.Name, "title": rule.Title, "says": cut(l.says), "happenedAt": event.FormatTime(l.at), "evidence": []int64{}, "timed": true})
	}
	stand, err := k.Book.List(ctx, &Query{States: []string{open, acknowledged, accepted}, Rules: []string{"verification-overdue", "source-gap"}}, size)
	if err != nil {
		return err
	}
	for _, f := range stand.Findings {
		if f.timed && !lacking[f.ID] && !(more && f.Rule == "source-gap") {
			about(typeWithdrawn, f.ID, "", map[string]any{"rule": f.Rule, "says": "it is so no longer"})
		}
	}
	return k.record(ctx, events)
}

// verified returns when the whole ledger was last found good, or when it began.
func (k *Keeper) verified(ctx context.Context, size int64, now time.Time) (time.Time, error) {
	var at time.Time
	begin, err := k.Find.Begin(ctx)
	if err != nil {
		return at, err
	}
	if begin < size {
		first, err := k.Find.Get(ctx, begin)
		if err != nil {
			return at, err
		}
		at = first.Event.Recorded.At
	}
	f := search.Filter{Types: []string{"AuditVerified"}, From: now.Add(-overdue)}
	err = k.Find.Each(ctx, &f, search.Range{End: size}, func(h search.Hit) error {
		var d struct {
			Scope string
			Valid bool
		}
		if json.Unmarshal(h.Event.Details, &d) == nil && d.Valid && d.Scope == "ledger" {
			at = h.Event.Timestamp
		}
		return nil
	})
	return at, err
}
