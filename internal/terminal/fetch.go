package terminal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/search"
)

// Fetch gets up to limit events that match a query from a server, in as many
// parts as it takes.
func (l *List) Fetch(ctx context.Context, c *client.Client, q url.Values, limit int) error {
	for len(l.Events) < limit {
		var page struct {
			Total       int64
			Events      []json.RawMessage
			Next        string
			ErasedBelow *search.Erasure
		}
		q.Set("limit", strconv.Itoa(min(limit-len(l.Events), 1000)))
		if err := c.Get(ctx, "/api/v1/audit", q, &page); err != nil {
			return err
		}
		for _, raw := range page.Events {
			e, err := ParseEvent(raw)
			if err != nil {
				return err
			}
			l.Events = append(l.Events, e)
		}
		l.Total, l.Next, l.Erased = page.Total, page.Next, page.ErasedBelow
		if page.Next == "" {
			break
		}
		q.Set("cursor", page.Next)
	}
	return nil
}

// Remark says in a line what an answer cannot tell, because it was erased; of nil
// nothing.
func Remark(w io.Writer, e *search.Erasure) {
	if e != nil {
		fmt.Fprintf(w, "graven: %s and are not in this answer\n", e)
	}
}
