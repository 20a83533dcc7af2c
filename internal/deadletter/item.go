package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
)

// An item is an event in a queue, as JSON, with who sent it.
type item struct {
	V           int             `json:"v"` // 1
	Principal   string          `json:"principal"`
	Via         string          `json:"via"`
	Attribution string          `json:"attribution,omitempty"`
	Event       json.RawMessage `json:"event"` // in our own form
}

func encode(by ledger.By, e *event.Event) []byte {
	data, err := json.Marshal(item{1, by.Principal, by.Via, by.Attribution, e.AppendJSON(nil)})
	if err != nil {
		panic("internal error: an event is no JSON: " + err.Error())
	}
	return data
}

// decode reads an item. Whoever can write into the queue could have sent it.
func decode(data []byte) (ledger.By, *event.Event, error) {
	var it item
	if err := json.Unmarshal(data, &it); err != nil {
		return ledger.By{}, nil, fmt.Errorf("what was kept cannot be read: %w", err)
	}
	by := ledger.By{Principal: it.Principal, Via: it.Via, Attribution: it.Attribution}
	if it.V != 1 || it.Principal == "" {
		return by, nil, errors.New("what was kept is not of a form that is known")
	}
	e, err := event.ParseServed(it.Event)
	if err != nil {
		return by, nil, fmt.Errorf("what was kept: %w", err)
	}
	e.Recorded = event.Recorded{}
	return by, e, nil
}
