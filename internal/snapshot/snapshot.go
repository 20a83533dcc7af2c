// Package snapshot puts the states of resources together again that capture has kept in
// a ledger: a ResourceSnapshot has one, or a part of a large one.
package snapshot

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/fact"
)

// Lost is why a state was kept that says something which the next one does not: it was
// replaced at the snapshot's time.
const Lost = "what it says is lost in the next state"

// A Snapshot is the state of a resource as of a time.
type Snapshot struct {
	Resource event.Resource
	Cluster  string
	Version  string // the resourceVersion
	At       time.Time
	Because  string
	Parts    []fact.Telling // at least one

	text, digest string
}

// Index is the place of the last part.
func (s *Snapshot) Index() int64 { return s.Parts[len(s.Parts)-1].Index }

// Size is that of the state, in bytes of JSON.
func (s *Snapshot) Size() int { return len(s.text) }

// A Broken is a snapshot whose state cannot be known any more, and why.
type Broken struct {
	Resource event.Resource
	Version  string
	At       time.Time
	Index    int64
	Erased   bool
	Reason   string
}

type details struct {
	ResourceVersion, Object, Digest, Because string
	Part, Parts                              int
}

type key struct{ cluster, uid, kind, namespace, name, version, digest string }

type gathered struct {
	Snapshot
	parts map[int]string
	whole int
}

// maxState bounds what is read of one state, in bytes of JSON: no API server has objects
// as large.
const maxState = 4 << 20

// Assemble returns the snapshots among events, which are given in the ledger's order,
// the oldest first, each state once; and those that are not whole.
func Assemble(tellings []fact.Telling) (whole []Snapshot, broken []Broken) {
	all := map[key]*gathered{}
	var order []*gathered
	for _, t := range tellings {
		e := t.Event
		if e.EventType != fact.Snapshot {
			continue
		}
		lost := func(erased bool, reason string) {
			broken = append(broken, Broken{e.Resource, "", e.Timestamp, t.Index, erased, reason})
		}
		if t.Erased {
			lost(true, "its content was erased")
			continue
		}
		var d details
		if err := json.Unmarshal(e.Details, &d); err != nil {
			lost(false, "its details are not those of a snapshot: "+err.Error())
			continue
		}
		r := e.Resource
		k := key{e.Cluster, r.UID, r.Kind, r.Namespace, r.Name, d.ResourceVersion, d.Digest}
		g := all[k]
		if g == nil {
			g = &gathered{Snapshot: Snapshot{Resource: r, Cluster: e.Cluster, Version: d.ResourceVersion, At: e.Timestamp, Because: d.Because, digest: d.Digest}, parts: map[int]string{}, whole: max(1, d.Parts)}
			all[k] = g
			order = append(order, g)
		}
		n := max(1, d.Part)
		if _, had := g.parts[n]; !had {
			g.parts[n] = d.Object
			g.Parts = append(g.Parts, t)
		}
	}
	for _, g := range order {
		if err := g.join(); err != nil {
			broken = append(broken, g.Broken(err))
			continue
		}
		whole = append(whole, g.Snapshot)
	}
	slices.SortStableFunc(whole, func(a, b Snapshot) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Index(), b.Index())) })
	return whole, broken
}

// join puts the parts together.
func (g *gathered) join() error {
	var text strings.Builder
	for n := 1; n <= g.whole; n++ {
		part, ok := g.parts[n]
		if !ok {
			return fmt.Errorf("part %d of %d is not there", n, g.whole)
		}
		if text.WriteString(part); text.Len() > maxState {
			return fmt.Errorf("it is larger than %d MiB", maxState>>20)
		}
	}
	g.text = text.String()
	return nil
}

// Broken says of a snapshot that it cannot be read, and why.
func (s *Snapshot) Broken(err error) Broken {
	return Broken{s.Resource, s.Version, s.At, s.Index(), false, err.Error()}
}

// Read returns the state, with numbers as [json.Number]; an error if it is not what its
// digest says.
func (s *Snapshot) Read() (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(s.text))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return nil, fmt.Errorf("its state is not JSON: %w", err)
	}
	if digest := capture.Digest(object); s.digest != "" && digest != s.digest {
		return nil, fmt.Errorf("its state has the digest %s, and is to have %s", digest, s.digest)
	}
	return object, nil
}

// Text returns a member of a state as text, by the names that lead there; empty where
// there is none.
func Text(object map[string]any, path ...string) string {
	switch v := At(object, path...).(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}

// At returns a member of a state, by the names that lead there; nil where there is none.
func At(object map[string]any, path ...string) any {
	var v any = object
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}
