package trail_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

func TestAnErasedFrameHasThePlaceAndTheEntryOfItsRecord(t *testing.T) {
	r := trail.Record{Index: 7, Chain: trail.Hash{1}, Entry: []byte(`{"entry":1}`), Salt: event.Salt{1, 2, 3}, Erasable: []byte(`{"details":{"canary":1}}`)}
	body := r.AppendErased(nil)
	size := len(r.AppendFrame(nil))
	if len(body) != size || strings.Contains(string(body), "canary") {
		t.Fatalf("erased, it is %q", body)
	}
	got, err := trail.ParseFrame(body)
	if err != nil || got.Index != 7 || got.Chain != r.Chain || string(got.Entry) != string(r.Entry) || got.Erasable != nil || got.Salt != (event.Salt{}) {
		t.Fatalf("it is read as %+v, %v", got, err)
	}
	for i := range body {
		changed := slices.Clone(body)
		changed[i] ^= 1
		if again, err := trail.ParseFrame(changed); err == nil && again.Erasable != nil && changed[0] != trail.FrameRecord {
			t.Errorf("with byte %d changed it has content", i)
		} else if err == nil && (i >= size-len(r.Erasable) || i >= 41 && i < 57) && changed[0] != 1 {
			t.Errorf("byte %d, where content was erased, was changed and nobody noticed", i)
		}
	}
}
