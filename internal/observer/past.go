package observer

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// Ledger is the server, which knows what was recorded of resources.
type Ledger struct {
	Client  *client.Client
	Cluster string // of which it is asked; empty for all
}

// Snapshot implements [Past].
func (l Ledger) Snapshot(ctx context.Context, of event.Resource) ([]byte, error) {
	query := url.Values{"type": {typeSnapshot}, "kind": {of.Kind}, "resource": {of.Name}, "limit": {"100"}}
	if of.Namespace != "" {
		query.Set("namespace", of.Namespace)
	}
	var page struct{ Events []*event.Event }
	if err := l.Client.Get(ctx, "/api/v1/audit", query, &page); err != nil {
		return nil, err
	}
	version, parts := "", map[int]string{}
	for _, e := range page.Events { // the newest first
		if e.Resource.UID != of.UID {
			continue
		}
		var d snapshot
		if err := json.Unmarshal(e.Details, &d); err != nil { // erased
			return nil, nil
		}
		if version == "" {
			version = d.ResourceVersion
		}
		if d.ResourceVersion != version {
			break
		}
		parts[max(1, d.Part)] = d.Object
	}
	var whole strings.Builder
	for n := 1; n <= len(parts); n++ {
		part, ok := parts[n]
		if !ok { // some of it was erased
			return nil, nil
		}
		whole.WriteString(part)
	}
	if whole.Len() == 0 {
		return nil, nil
	}
	return []byte(whole.String()), nil
}
