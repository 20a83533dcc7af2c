package intake

import (
	"bytes"
	"errors"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// Native reads one event in either form that the HTTP API accepts: an object
// with the member "event_type" is Kubernaut's flat form, any other the native
// one. It tells whether it was the flat one.
func Native(raw []byte) (e *event.Event, flat bool, err error) {
	flat, err = isFlat(raw)
	switch {
	case err != nil:
		err = fieldError(err)
	case flat:
		e, err = Kubernaut(raw)
	default:
		e, err = event.Parse(raw)
	}
	return e, flat, err
}

// isFlat looks for the member event_type. Few native events hold the word at
// all, and flat ones hold it near their front, so that almost nothing is read twice.
func isFlat(raw []byte) (bool, error) {
	if !bytes.Contains(raw, []byte(`"event_type"`)) {
		return false, nil
	}
	found := errors.New("found")
	s := jcs.NewScanner(raw)
	err := s.Object(func(name []byte) error {
		if string(name) == "event_type" {
			return found
		}
		_, err := s.Skip()
		return err
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// IsKubernaut reports whether raw is an event in Kubernaut's flat form.
func IsKubernaut(raw []byte) bool {
	flat, err := isFlat(raw)
	return err == nil && flat
}
