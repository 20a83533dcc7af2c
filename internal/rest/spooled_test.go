package rest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/trail"
)

// keeping is a recorder whose store is away: it keeps what it is given.
type keeping struct{}

func (keeping) Append(_ context.Context, _ ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error) {
	results := make([]ledger.Result, len(events))
	for i, e := range events {
		e.Complete(time.Now())
		if results[i].Err = e.Validate(time.Now()); results[i].Err != nil {
			continue
		}
		results[i].Receipt = ledger.Receipt{ID: e.ID, Spooled: true}
	}
	return results, nil, nil
}

// openAway opens a door whose store is away.
func openAway(t *testing.T) *door {
	t.Helper()
	return open(t, change{rest: func(c *rest.Config) { c.Recorder = keeping{} }})
}

func TestAnEventThatIsKeptHasNoReceiptByTheLedger(t *testing.T) {
	d := openAway(t).as("recorder")
	var one map[string]any
	d.post("/api/v1/audit/events", native).want(http.StatusAccepted).into(&one)
	if one["spooled"] != true || one["index"] != nil || one["leafHash"] != nil || one["checkpoint"] != nil || one["message"] != "kept until the store is back" {
		t.Errorf("%v", one)
	}
	var batch struct {
		Accepted, Spooled, Rejected int
		Items                       []struct{ Status int }
	}
	d.post("/api/v1/audit/events/batch", native+"\n"+flat).want(http.StatusAccepted).into(&batch)
	if batch.Accepted != 2 || batch.Spooled != 2 || batch.Items[1].Status != http.StatusAccepted {
		t.Errorf("%+v", batch)
	}
	d.post("/api/v1/audit/events/batch", native+"\n{}").want(http.StatusMultiStatus)
}
