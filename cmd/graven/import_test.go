package main

import (
	"slices"
	"testing"

	"github.com/graven-audit/graven/event"
)

func TestDerivedIdsAreTheSameEachTime(t *testing.T) {
	const a, b = `{"eventType":"IssueCreated","actor":{"type":"user","name":"j"},"resource":{"kind":"Issue"},"details":{"n":1}}`,
		`{"eventType":"IssueCreated","actor":{"type":"user","name":"j"},"resource":{"kind":"Issue"},"details":{"n":2}}`
	ids := func(lines ...string) (ids []event.ID) {
		im := newImporter(nil, nil, nil)
		for _, l := range lines {
			e, err := event.ParseServed([]byte(l))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, im.derive(e))
		}
		return ids
	}
	once := ids(a, a, b)
	if once[0] == once[1] || once[0] == once[2] || once[1] == once[2] {
		t.Errorf("two events share an id: %v", once)
	}
	if again := ids(b, a, a); !slices.Equal(again, []event.ID{once[2], once[0], once[1]}) {
		t.Errorf("%v, in another order %v", once, again)
	}
}
