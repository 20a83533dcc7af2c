package verify_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// own returns an event of the ledger's own, with a fact.
func (l *ledger) own(t testing.TB, eventType, fact string) *event.Event {
	t.Helper()
	e := l.event(t)
	e.EventType, e.Ledger = eventType, []byte(fact)
	return e
}

// eraseFrames erases the content of entries in a segment, as a server does.
func (i image) eraseFrames(t testing.TB, indexes ...int64) {
	t.Helper()
	for _, name := range i.segments() {
		bodies := frames(i[name])
		for _, index := range indexes {
			if at := recordAt(bodies, index); at >= 0 {
				r, err := trail.ParseFrame(bodies[at])
				if err != nil {
					t.Fatal(err)
				}
				bodies[at] = r.AppendErased(nil)
			}
		}
		i[name] = join(i[name], bodies)
	}
}

func TestOnlyASealedTombstoneExcusesContentThatIsGone(t *testing.T) {
	const names = `{"erased":{"asOf":20,"details":[[3,2],[7,1]]}}`
	for _, tt := range []struct {
		name string
		make func(l *ledger)
		gone []int64
		want []found
		note string
	}{
		{"none", func(*ledger) {}, []int64{4}, []found{{verify.DetailsMismatch, 4}}, ""},
		{"one that names them", func(l *ledger) { l.append(t, l.own(t, tombstone.TypeRetentionRun, names)); l.seal(t) }, []int64{3, 4, 7}, nil, "the details of 3 entries were erased"},
		{"one that names others", func(l *ledger) { l.append(t, l.own(t, tombstone.TypeContentErased, names)); l.seal(t) }, []int64{4, 5}, []found{{verify.DetailsMismatch, 5}}, "the details of 1 entry were erased"},
		{"one that was not carried out", func(l *ledger) { l.append(t, l.own(t, tombstone.TypeRetentionRun, names)); l.seal(t) }, []int64{7}, nil, "the details of 2 entries are still here"},
		{"one that is not sealed", func(l *ledger) {
			l.append(t, l.event(t))
			l.seal(t)
			l.append(t, l.own(t, tombstone.TypeRetentionRun, names))
		}, []int64{3}, []found{{verify.DetailsMismatch, 3}}, ""},
		{"one that a hold has overtaken", func(l *ledger) {
			l.append(t, l.own(t, tombstone.TypeHoldPlaced, `{"hold":{"id":"x"}}`))
			l.append(t, l.own(t, tombstone.TypeRetentionRun, names))
			l.seal(t)
		}, []int64{3}, []found{{verify.DetailsMismatch, 3}}, ""},
		{"one of another type", func(l *ledger) { l.append(t, l.own(t, "LedgerStarted", names)); l.seal(t) }, []int64{3}, []found{{verify.DetailsMismatch, 3}}, ""},
		{"one that names what is behind it", func(l *ledger) {
			l.append(t, l.own(t, tombstone.TypeRetentionRun, `{"erased":{"asOf":20,"details":[[3,20]]}}`))
			l.seal(t)
		}, []int64{3}, []found{{verify.DetailsMismatch, 3}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(t, 1, 10, 0, 10)
			tt.make(l)
			o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
			i := l.image(t)
			if len(l.records) > int(l.newest().Size) { // a pool that no checkpoint ends
				name := i.segments()[1]
				var b []byte
				for _, r := range l.records[l.newest().Size:] {
					b = r.AppendFrame(b)
				}
				i[name] = join(i[name], append(frames(i[name]), b))
				i.uncover(int(l.newest().Size))
			}
			i.eraseFrames(t, tt.gone...)
			r := checkDir(t, i.write(t), o)
			if got := findings(r); !slices.Equal(got, tt.want) {
				t.Errorf("a directory: want %v, found\n%s", tt.want, describe(r))
			}
			if tt.note != "" && !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, tt.note) }) {
				t.Errorf("notes: %q", r.Notes)
			}
			for _, index := range tt.gone {
				l.erase(int(index))
			}
			l.records = l.records[:l.newest().Size]
			r = checkExport(t, l.export(t), o)
			if got := findings(r); !slices.Equal(got, tt.want) {
				t.Errorf("an export: want %v, found\n%s", tt.want, describe(r))
			}
		})
	}
	t.Run("content is gone and its place bears something", func(t *testing.T) {
		l := newLedger(t, 1, 10, 0, 10)
		l.append(t, l.own(t, tombstone.TypeRetentionRun, names))
		l.seal(t)
		i := l.image(t)
		i.eraseFrames(t, 3)
		name := i.segments()[0]
		bodies := frames(i[name])
		at := recordAt(bodies, 3)
		bodies[at][len(bodies[at])-1] = 'x'
		i[name] = join(i[name], bodies)
		if r := checkDir(t, i.write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}}); r.OK() {
			t.Error("it is good")
		}
	})
}
