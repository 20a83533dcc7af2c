package controller

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
)

// TestWhatIsNoEventIsKeptWhole, or with its longest details shortened by name.
func TestWhatIsNoEventIsKeptWhole(t *testing.T) {
	spec := func(sizes map[string]int) map[string]any {
		details := map[string]any{}
		for name, size := range sizes {
			details[name] = strings.Repeat(`"`, size) // each takes four bytes, quoted twice
		}
		return map[string]any{"eventType": "LedgerCreated", "resource": map[string]any{"kind": "Issue"}, "correlationID": "inc", "details": details}
	}
	for name, test := range map[string]struct {
		sizes map[string]int
		want  string
	}{
		"a small one":          {map[string]int{"a": 10}, ""},
		"a large one":          {map[string]int{"a": 25_000, "b": 25_000}, ""},
		"one that has no room": {map[string]int{"a": 10, "b": 60_000, "c": 40_000}, "details.b,details.c"},
	} {
		t.Run(name, func(t *testing.T) {
			whole := spec(test.sizes)
			text, shortened, err := kept(whole)
			if err != nil || strings.Join(shortened, ",") != test.want {
				t.Fatal(shortened, err)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			if got["correlationID"] != "inc" || got["resource"] == nil || !slices.Equal(slices.Sorted(maps.Keys(got["details"].(map[string]any))), slices.Sorted(maps.Keys(test.sizes))) {
				t.Errorf("%.200v", got)
			}
			for name, size := range test.sizes {
				if len(whole["details"].(map[string]any)[name].(string)) != size {
					t.Errorf("%s itself was shortened", name)
				}
			}
			e := &event.Event{}
			if err := e.SetDetails(map[string]string{"spec": text, "reason": strings.Repeat(`"`, 4096)}); err != nil {
				t.Error(err)
			}
		})
	}
	if text, shortened, err := kept(map[string]any{"odd": strings.Repeat(`"`, 200_000)}); err != nil || len(text) > maxKept || len(shortened) != 1 {
		t.Errorf("%d, %v, %v", len(text), shortened, err)
	}
}
