package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// backUp makes an image that of a backup which ends at a checkpoint.
func (i image) backUp(t testing.TB, l *ledger, c *trail.Checkpoint, change func(*datadir.Manifest)) {
	t.Helper()
	m := &datadir.Manifest{V: datadir.ManifestVersion, Origin: l.key.Name(), Key: l.key.vkey}
	for _, name := range i.segments() {
		base, _ := seglog.SegmentBase(strings.TrimPrefix(name, "log/"))
		at := seglog.FirstOffset
		for _, body := range frames(i[name]) {
			at += int64(8 + len(body))
			if c != nil && body[0] == trail.FrameCheckpoint && bytes.Equal(body[1:], c.Note) {
				m.Size, m.Checkpoint, m.Segment, m.Offset = c.Size, string(c.Note), base, at
			}
		}
	}
	if change != nil {
		change(m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	i[datadir.BackupFile] = text
	for name := range i {
		if strings.HasPrefix(name, "tree/") {
			delete(i, name)
		}
	}
}

func TestABackupIsJudgedUpToWhereItsManifestEnds(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 20, 0, 30, 12, 0, 7)
	fork := newLedger(t, 1, 1, 20, 0, 30, 12, 0, 7)
	alter(&fork.records[5])
	fork.resign(t)
	other := newLedger(t, 1, 1, 20, 0, 30)
	other.key = newKey(t, origin, 2)
	other.resign(t)
	whole := l.image(t)
	last, middle := whole.segments()[2], whole.segments()[1]
	middleEnd := func(i image) int { // behind the checkpoint of 51 entries
		bodies := frames(i[middle])
		at := int(seglog.FirstOffset)
		for _, b := range bodies[:31] {
			at += 8 + len(b)
		}
		return at
	}
	for _, tt := range []struct {
		name   string
		at     int // pool at which it ends
		change func(*datadir.Manifest)
		harm   func(image)
		finds  string // kind and place
		notes  string
	}{
		{name: "that has all", at: 4},
		{name: "within the log", at: 2, notes: "do not count: run graven backup again"},
		{name: "at the end of a segment", at: 3, notes: "do not count"},
		{name: "before a segment just begun", at: 4, harm: func(i image) { i["log/"+seglog.SegmentName(70)] = nil }},
		{name: "before a pool that breaks off", at: 2, harm: func(i image) {
			i[middle] = i[middle][:middleEnd(i)+300]
			delete(i, last)
		}, notes: "do not count"},
		{name: "before bytes that were never written", at: 2, harm: func(i image) { clear(i[middle][middleEnd(i)+20:]); i[last] = make([]byte, 5000) }, notes: "do not count"},
		{name: "with a tip that is newer", at: 3, notes: "do not count"},
		{name: "damaged before its end", at: 2, harm: func(i image) { i[middle][200] ^= 1 }, finds: "changed log/"},
		{name: "cut before its end", at: 3, harm: func(i image) { i[middle] = i[middle][:middleEnd(i)]; delete(i, last) }, finds: "cut tail log/"},
		{name: "without a log", at: 3, harm: func(i image) {
			for _, name := range i.segments() {
				delete(i, name)
			}
			i["log/x"] = nil
		}, finds: "cut tail log"},
		{name: "with a size that is not its checkpoint's", at: 2, change: func(m *datadir.Manifest) { m.Size++ }, finds: "changed " + datadir.BackupFile},
		{name: "with a size beyond all", at: 2, change: func(m *datadir.Manifest) { m.Size = 1<<63 - 1 }, finds: "changed " + datadir.BackupFile},
		{name: "with an offset behind more", at: 2, change: func(m *datadir.Manifest) { m.Offset = 1 << 40 }, finds: "changed " + datadir.BackupFile},
		{name: "with an offset before its checkpoint", at: 2, change: func(m *datadir.Manifest) { m.Offset -= 3 }, finds: "bad signature log/"},
		{name: "with an offset in the header", at: 2, change: func(m *datadir.Manifest) { m.Offset = 3 }, finds: "cut tail log/"},
		{name: "without its checkpoint", at: 2, change: func(m *datadir.Manifest) { m.Checkpoint = "" }, finds: "bad signature " + datadir.BackupFile},
		{name: "with a fork's checkpoint", at: 2, change: func(m *datadir.Manifest) { m.Checkpoint = string(fork.pools[2].Note) }, finds: "forked " + datadir.BackupFile},
		{name: "with another key's checkpoint", at: 2, change: func(m *datadir.Manifest) { m.Checkpoint = string(other.pools[2].Note) }, finds: "wrong key " + datadir.BackupFile},
		{name: "with rubbish for a manifest", at: 4, harm: func(i image) { i[datadir.BackupFile] = []byte("{") }, finds: "changed " + datadir.BackupFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := whole.clone()
			i.backUp(t, l, l.pools[tt.at], tt.change)
			if tt.harm != nil {
				tt.harm(i)
			}
			r := checkDir(t, i.write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}, Since: [][]byte{l.pools[0].Note}})
			if tt.finds != "" {
				found := false
				for _, f := range r.Findings {
					found = found || strings.HasPrefix(string(f.Kind)+" "+f.Where, tt.finds)
				}
				if !found {
					t.Errorf("want %s, found\n%s", tt.finds, describe(r))
				}
				return
			}
			if size := l.pools[tt.at].Size; !r.OK() || r.Size != size || r.Entries != size || r.Root != l.pools[tt.at].Root {
				t.Errorf("%d entries, %d checked, want %d, found\n%s", r.Size, r.Entries, size, describe(r))
			}
			if notes := strings.Join(r.Notes, "\n"); tt.notes == "" && notes != "" || !strings.Contains(notes, tt.notes) {
				t.Errorf("notes %q, want %q", r.Notes, tt.notes)
			}
		})
	}
}

func TestABackupThatWasNeverFinishedAccusesNobody(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 20, 0, 30)
	for name, harm := range map[string]func(image){
		"with nothing in it": func(i image) {
			for name := range i {
				if name != datadir.BackupFile {
					delete(i, name)
				}
			}
		},
		"with an empty segment": func(i image) {
			for name := range i {
				if name != datadir.BackupFile && name != "keys/ledger.vkey" {
					delete(i, name)
				}
			}
			i["log/"+seglog.SegmentName(0)] = nil
		},
		"with a segment": func(i image) { delete(i, "tip"); delete(i, i.segments()[1]) },
		"with a part of a segment": func(i image) {
			delete(i, "tip")
			delete(i, i.segments()[1])
			i[i.segments()[0]] = i[i.segments()[0]][:100]
		},
		"with everything but a tip": func(i image) { delete(i, "tip") },
		"with a tip, just before":   func(image) {},
	} {
		i := l.image(t)
		i.backUp(t, l, nil, nil)
		harm(i)
		r, err := verify.Dir(context.Background(), i.write(t), verify.Options{Since: [][]byte{l.pools[1].Note}})
		if !errors.Is(err, datadir.ErrUnfinished) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestTheManifestOfALaterVersionIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 20)
	i := l.image(t)
	i.backUp(t, l, l.pools[1], func(m *datadir.Manifest) { m.V++ })
	if r, err := verify.Dir(context.Background(), i.write(t), verify.Options{}); !errors.Is(err, datadir.ErrNewer) {
		t.Errorf("%v, %v", r, err)
	}
}
