package search

import (
	"context"
	"fmt"
	"time"

	"github.com/graven-audit/graven/event"
)

// An Erasure says that entries went which a question may have asked for: nobody
// can tell any more.
type Erasure struct {
	// Index is the one below which entries were erased, and RecordedBefore when
	// the entry there was recorded.
	Index          int64     `json:"index"`
	RecordedBefore time.Time `json:"recordedBefore"`
}

// Erased returns what was erased that may have matched a filter; nil for
// nothing.
func (x *Finder) Erased(ctx context.Context, f *Filter) (*Erasure, error) {
	begin, err := x.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return x.erased(ctx, f, begin)
}

func (x *Finder) erased(ctx context.Context, f *Filter, begin int64) (*Erasure, error) {
	if begin == 0 {
		return nil, nil
	}
	h, err := x.Get(ctx, begin)
	if err != nil {
		return nil, err
	}
	at := h.Event.Recorded.At
	if f.From.After(at.Add(event.MaxFuture)) {
		return nil, nil
	}
	return &Erasure{begin, at}, nil
}

func (e *Erasure) String() string {
	return fmt.Sprintf("the entries below %d, recorded before %s, were erased", e.Index, event.FormatTime(e.RecordedBefore))
}

// AppendMember appends the erasure as a further member of a JSON object, in
// Kubernaut's spelling if it is to be flat; nil appends nothing.
func (e *Erasure) AppendMember(dst []byte, flat bool) []byte {
	if e == nil {
		return dst
	}
	format := `,"erasedBelow":{"index":%d,"recordedBefore":%q}`
	if flat {
		format = `,"erased_below":{"index":%d,"recorded_before":%q}`
	}
	return fmt.Appendf(dst, format, e.Index, event.FormatTime(e.RecordedBefore))
}
