package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestTheWindowKeepsWholeIncidents(t *testing.T) {
	now := time.Date(2026, 3, 19, 12, 0, 0, 0, time.UTC)
	// events makes items of a text such as "a1 b2 a3": incident and index, in
	// another ledger where there is none. "-4" is an event without an incident.
	events := func(text string) []item {
		var items []item
		for n, word := range strings.Fields(text) {
			it := item{name: types.NamespacedName{Name: word}, uid: types.UID(fmt.Sprint(n)), incident: strings.Trim(word[:1], "-"), index: -1, at: now}
			if len(word) > 1 {
				if _, err := fmt.Sscan(word[1:], &it.index); err != nil {
					t.Fatal(err)
				}
				it.at = now.Add(time.Duration(it.index-100) * time.Hour)
			}
			items = append(items, it)
		}
		return items
	}
	for _, c := range []struct {
		what   string
		window window
		have   string
		latest map[string]int64
		gone   string
	}{
		{"all have room", window{newest: 3}, "a1 a2 b3", nil, ""},
		{"the oldest incident goes whole", window{newest: 3}, "a1 a2 b3 b4", nil, "a1 a2"},
		{"an incident is as new as its newest event", window{newest: 3}, "a1 b2 b3 a4", nil, "b2 b3"},
		{"where one has no room, an older and smaller one may have it", window{newest: 3}, "a1 b2 b3 c4 c5", nil, "b2 b3"},
		{"the newest incident has twice the room", window{newest: 2}, "a1 b2 b3 b4 b5", nil, "a1"},
		{"and no more", window{newest: 2}, "a1 b2 b3 b4 b5 b6", nil, "b2 b3 b4 b5 b6"},
		{"events without an incident stand for themselves", window{newest: 2}, "-1 -2 -3", nil, "-1"},
		{"what is not in the cluster yet counts", window{newest: 2}, "a1 a2 b3 b4", map[string]int64{"a": 5}, "b3 b4"},
		{"what another ledger sealed goes first", window{newest: 2}, "x a1 a2", nil, "x"},
		{"what is too old goes", window{newest: 9, span: 10 * time.Hour}, "a80 b85 b95 -85", nil, "a80 -85"},
		{"an old event of an incident that goes on stays", window{newest: 9, span: 10 * time.Hour}, "a80 a95", nil, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			gone := map[string]bool{}
			for _, in := range c.window.beyond(events(c.have), c.latest, now) {
				for _, it := range in.items {
					gone[it.name.Name] = true
				}
			}
			want := strings.Fields(c.gone)
			for _, name := range want {
				if !gone[name] {
					t.Errorf("%s stays", name)
				}
			}
			if len(gone) != len(want) {
				t.Errorf("gone: %v, want %s", gone, c.gone)
			}
		})
	}
}
