package datadir_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/datadir"
)

// FuzzParseManifest checks no signatures: those take so long that little else
// would be tried.
func FuzzParseManifest(f *testing.F) {
	whole := datadir.Manifest{V: datadir.ManifestVersion, Origin: "a.example", Key: "a.example+00000000+AA==", Size: 7, Checkpoint: "a.example\n7\n",
		Segment: 3, Offset: 1000, Edge: []tlog.Hash{{1}, {2}, {3}}}
	for _, m := range []datadir.Manifest{whole, {V: datadir.ManifestVersion}, {V: datadir.ManifestVersion + 1}} {
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := datadir.ParseManifest(data)
		if err != nil {
			if !errors.Is(err, datadir.ErrManifest) && !errors.Is(err, datadir.ErrNewer) {
				t.Errorf("an error of neither kind: %v", err)
			}
			return
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := datadir.ParseManifest(text); err != nil || !reflect.DeepEqual(again, m) || m.Size < 0 || m.Offset < 0 {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
