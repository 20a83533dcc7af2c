package verify

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/trail"
)

// lineFault says what is wrong with an export's line whose entry has the hash
// that stands beside it. What the line shows to a reader must be what the
// entry says, in every byte.
func lineFault(l *trail.Line, text []byte) (Kind, string) {
	_, want, err := event.ParseEntry(l.Record.Entry)
	if err != nil {
		return Changed, fmt.Sprintf("the entry cannot be read: %v", err)
	}
	digests := want
	if l.Record.Erasable != nil {
		digests = l.Event.Digests(l.Record.Salt)
		if fault := digestFault(digests, want); fault != "" {
			return DetailsMismatch, fault
		}
	} else if len(l.Event.Details) > 0 || l.Event.Error.Message != "" || len(l.Event.Original) > 0 {
		return DetailsMismatch, "the line has details, and no salt to check them with"
	}
	if rebuilt := l.Event.AppendEntry(nil, digests); !bytes.Equal(rebuilt, l.Record.Entry) {
		return Changed, fmt.Sprintf("the line's member %q is not that of the entry", difference(rebuilt, l.Record.Entry))
	}
	if !bytes.Equal(bytes.TrimSuffix(l.Append(nil), []byte("\n")), bytes.TrimSuffix(text, []byte("\n"))) {
		return Changed, "the line is not in the form in which it was exported"
	}
	return "", ""
}

// difference returns the path of the first member that differs between two
// objects in canonical form.
func difference(a, b []byte) string {
	x, y := members(a), members(b)
	for _, name := range slices.Sorted(maps.Keys(x)) {
		if _, ok := y[name]; !ok {
			y[name] = nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(y)) {
		if v, w := x[name], y[name]; !bytes.Equal(v, w) {
			if len(v) > 0 && v[0] == '{' && len(w) > 0 && w[0] == '{' {
				return name + "." + difference(v, w)
			}
			return name
		}
	}
	return ""
}

// members returns the members of an object, or those before its first fault.
func members(object []byte) map[string][]byte {
	found := map[string][]byte{}
	s := jcs.NewScanner(object)
	_ = s.Object(func(name []byte) error {
		value, err := s.Skip()
		found[string(name)] = value
		return err
	})
	return found
}
