package verify_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// flipAll flips every bit of the named files of an image, one at a time, and
// calls check with each report. Every bit must be found.
func flipAll(t *testing.T, l *ledger, i image, names []string, keys bool, check func(name string, at int, r *verify.Report) error) {
	t.Helper()
	type flip struct {
		name string
		at   int
	}
	todo := make(chan flip, 64)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		dir := i.write(t)
		o := verify.Options{Workers: 1}
		if keys {
			o.Keys = []note.Verifier{cached{l.key.verifier, map[string]bool{}}}
		}
		workers.Go(func() {
			for f := range todo {
				file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					return
				}
				was := i[f.name][f.at]
				for bit := range 8 {
					_, err := file.WriteAt([]byte{was ^ 1<<bit}, int64(f.at))
					if err != nil {
						t.Error(err)
					}
					r, err := verify.Dir(context.Background(), dir, o)
					if err == nil && r.OK() {
						err = fmt.Errorf("not found")
					}
					if err == nil {
						err = check(f.name, f.at, r)
					}
					if err != nil {
						t.Errorf("%s: bit %d of byte %d: %v", f.name, bit, f.at, err)
					}
				}
				if _, err := file.WriteAt([]byte{was}, int64(f.at)); err != nil {
					t.Error(err)
				}
				if err := file.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, name := range names {
		for at := range i[name] {
			if t.Failed() {
				break
			}
			if race && at%101 != 0 {
				continue
			}
			todo <- flip{name, at}
		}
	}
	close(todo)
	workers.Wait()
}

// spots returns, for each byte of a segment, what a change there must be.
func spots(data []byte) []found {
	list := make([]found, 0, len(data))
	for range seglog.FirstOffset {
		list = append(list, found{verify.Changed, -1})
	}
	index := int64(-1)
	for _, body := range frames(data) {
		f := found{verify.BadSignature, index}
		if r, err := trail.ParseFrame(body); err == nil {
			index = r.Index
			f = found{verify.Changed, index}
		}
		for range 8 + len(body) {
			list = append(list, f)
		}
	}
	for len(list) < len(data) {
		list = append(list, found{verify.Changed, -1})
	}
	return list
}

func TestEveryBitOfTheLogIsFoundInItsPlace(t *testing.T) {
	t.Parallel()
	flipLog(t, newLedger(t, 1, 1, 3, 0, 1, 2))
}

func flipLog(t *testing.T, l *ledger) {
	i := l.image(t)
	last := i.segments()[len(i.segments())-1]
	i[last] = append(i[last], make([]byte, 64)...)
	where := map[string][]found{}
	for _, name := range i.segments() {
		where[name] = spots(i[name])
	}
	flipAll(t, l, i, i.segments(), true, func(name string, at int, r *verify.Report) error {
		want := where[name][at]
		if got := findings(r); !slices.Equal(got, []found{want}) {
			return fmt.Errorf("want %v, found\n%s", want, describe(r))
		}
		return nil
	})
}

func TestEveryBitOfTipAndKeyIsFound(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, 1, 2)
	for _, given := range []bool{true, false} {
		flipAll(t, l, l.image(t), []string{"tip", "keys/ledger.vkey"}, given, func(string, int, *verify.Report) error { return nil })
	}
}

func TestEveryBitOfAHashIsFoundInItsPlace(t *testing.T) {
	t.Parallel()
	l := manyEntries(t, 256)
	first := map[string]int64{"tree/00": 1, "tree/04": 16, "tree/08": 256}
	flipAll(t, l, l.image(t), slices.Sorted(maps.Keys(first)), true, func(name string, at int, r *verify.Report) error {
		if got := findings(r); !slices.Equal(got, []found{{verify.TileMismatch, int64(at/32) * first[name]}}) {
			return fmt.Errorf("found\n%s", describe(r))
		}
		return nil
	})
}
