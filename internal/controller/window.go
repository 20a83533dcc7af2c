package controller

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// A window is what is kept in the cluster of what is in the ledger.
type window struct {
	// newest bounds the objects: the newest incidents are kept that have no more
	// of them together. The newest incident is kept with up to twice as many.
	newest int
	// span bounds the age of an incident's newest event; 0 is no bound.
	span time.Duration
}

// An item is an object that is sealed.
type item struct {
	name     types.NamespacedName
	uid      types.UID
	incident string    // empty for an event that belongs to none
	index    int64     // -1 in another ledger
	at       time.Time // when it happened
}

// itemOf returns what a window needs of an object.
func itemOf(u *unstructured.Unstructured, origin string) item {
	i := item{name: nameIn(u), uid: u.GetUID(), incident: correlationOf(u), index: -1}
	if r, ok := receiptOf(u); ok && r.origin == origin {
		i.index = r.index
	}
	text, _, _ := unstructured.NestedString(u.Object, "spec", "timestamp")
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		i.at = at
	}
	return i
}

// An incident is items that are kept, or go, together.
type incident struct {
	name  string
	items []item
	index int64     // the newest
	at    time.Time // the newest
}

// incidents groups items. latest has the newest index of those incidents of which
// more is known than what the items tell.
func incidents(items []item, latest map[string]int64) []incident {
	var all []incident
	place := map[string]int{}
	for _, it := range items {
		at, ok := place[it.incident]
		if !ok || it.incident == "" {
			at = len(all)
			place[it.incident] = at
			index, ok := latest[it.incident]
			if !ok || it.incident == "" {
				index = -1
			}
			all = append(all, incident{name: it.incident, index: index})
		}
		in := &all[at]
		in.items = append(in.items, it)
		in.index = max(in.index, it.index)
		if it.at.After(in.at) {
			in.at = it.at
		}
	}
	slices.SortFunc(all, func(a, b incident) int {
		return cmp.Or(cmp.Compare(b.index, a.index), b.at.Compare(a.at), cmp.Compare(a.name, b.name), cmp.Compare(a.items[0].uid, b.items[0].uid))
	})
	return all
}

// beyond returns the incidents that are to go, the oldest first. Of two
// objects of one event, in two namespaces, both count.
func (w window) beyond(items []item, latest map[string]int64, now time.Time) []incident {
	var gone []incident
	kept := 0
	for i, in := range incidents(items, latest) {
		n := len(in.items)
		room := kept+n <= w.newest || i == 0 && n <= 2*w.newest
		if w.span > 0 && now.Sub(in.at) > w.span {
			room = false
		}
		if !room {
			gone = append(gone, in)
			continue
		}
		kept += n
	}
	slices.Reverse(gone)
	return gone
}
