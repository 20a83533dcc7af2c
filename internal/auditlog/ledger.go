package auditlog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// Ledger is the server.
type Ledger struct {
	Client  *client.Client
	Cluster string // of which it is asked; empty for all
}

// pageSize is how many events are asked for at a time.
const pageSize = "1000"

// Events implements [Trail].
func (l Ledger) Events(ctx context.Context, q Query, fn func(*event.Event)) error {
	query := url.Values{"from": {event.FormatTime(q.From)}, "to": {event.FormatTime(q.Until)}, "limit": {pageSize}}
	for name, value := range map[string]string{"type": strings.Join(q.Types, ","), "namespace": q.Namespace, "cluster": l.Cluster} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for {
		var page struct {
			Events []*event.Event `json:"events"`
			Next   string         `json:"next"`
		}
		if err := l.Client.Get(ctx, "/api/v1/audit", query, &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			fn(e)
		}
		if page.Next == "" {
			return nil
		}
		query.Set("cursor", page.Next)
	}
}

// Follow calls fn for each event of some types that stands behind an index in the
// ledger, and from now on where after is -1, until ctx ends or fn fails.
func (l Ledger) Follow(ctx context.Context, types []string, after int64, fn func(index int64, e *event.Event) error) error {
	from := ""
	if after >= 0 {
		from = strconv.FormatInt(after, 10)
	}
	return l.Client.Follow(ctx, url.Values{"type": {strings.Join(types, ",")}}, from, func(raw json.RawMessage) error {
		var at struct {
			Index int64 `json:"index"`
		}
		if err := json.Unmarshal(raw, &at); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		e, err := event.ParseServed(raw)
		if err != nil {
			return fmt.Errorf("read event %d: %w", at.Index, err)
		}
		return fn(at.Index, e)
	})
}
