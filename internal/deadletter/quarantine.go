package deadletter

import (
	"fmt"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/quarantine"
)

// operator records decisions about a quarantine. Whoever may write into the queue
// may decide; the event says who by his own word.
var operator = ledger.By{Principal: "quarantine", Via: "spool", Attribution: event.AttributionAsserted}

// Held returns what is kept in quarantine of an item. At is the caller's to set,
// and what names it.
func Held(r Refused) quarantine.Held {
	h := quarantine.Held{Reason: r.Reason}
	by, e, err := decode(r.Item.Data)
	if err != nil {
		h.Bytes = r.Item.Data
		return h
	}
	h.Principal, h.Via, h.Attribution = by.Principal, by.Via, by.Attribution
	h.Event = e.AppendJSON(nil)
	return h
}

// Decided returns the items by which a decision is carried out. An event that is
// sent again is of whom it was accepted from.
func Decided(h quarantine.Held, d quarantine.Decision) (items [][]byte, err error) {
	refused, err := event.ParseServed(h.Event)
	if err != nil {
		refused = nil
	}
	tells, err := d.Tells(&h, refused)
	if err != nil {
		return nil, err
	}
	if d.Type == event.TypeRetried {
		items = append(items, encode(ledger.By{Principal: h.Principal, Via: h.Via, Attribution: h.Attribution}, refused))
	}
	tells.Resource.Name = h.Key()
	if refused != nil && refused.Source.Name != "" && refused.Source.Seq > 0 {
		// What becomes of a source's numbers is told under its name.
		s := refused.Source
		tells.Source.Name, tells.Resource.Name = s.Name, s.Name
		tells.Resource.UID = event.Span{Epoch: s.Epoch, From: s.Seq, To: s.Seq}.String()
	}
	if err := check(tells, d.At); err != nil {
		return nil, fmt.Errorf("the event that tells of it: %w", err)
	}
	return append(items, encode(operator, tells)), nil
}
