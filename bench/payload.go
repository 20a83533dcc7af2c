package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/examples"
	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/intake"
)

// eventSize is the size of an event in its native JSON form, in bytes.
const eventSize = 1024

// newEvent makes the n-th event: that of an operator, padded to eventSize.
func newEvent(n int64) *event.Event { return paddedEvent(n, padding) }

func paddedEvent(n int64, padding string) *event.Event {
	now := time.Now().UTC().Truncate(time.Microsecond)
	e := &event.Event{
		ID:            event.NewID(now),
		EventType:     "RemediationExecuted",
		Timestamp:     now,
		Actor:         event.Actor{Type: event.ActorController, Name: "remediation-reconciler", ServiceAccount: "chatcli-operator"},
		Resource:      event.Resource{APIVersion: "platform.chatcli.io/v1alpha1", Kind: "RemediationPlan", Namespace: "production", Name: "plan-" + strconv.FormatInt(n%1000, 10)},
		Outcome:       event.OutcomeSuccess,
		Severity:      event.SeverityHigh,
		CorrelationID: "inc-" + strconv.FormatUint(uint64(uint32(n/12)*2654435761|1<<31), 16),
	}
	e.Details = []byte(`{"action":"Rollback","attempt":"1","confidence":0.95,"note":"` + padding + `","target":"deployment/api-server"}`)
	return e
}

// padding makes the JSON of an event eventSize bytes long.
var padding = func() string {
	text := strings.Repeat("error rate rose after the rollout of revision 6; ", 30)
	e := paddedEvent(100, "")
	e.Complete(time.Now())
	return text[:eventSize-len(e.AppendJSON(nil))]
}()

// newBytes makes the n-th event as JSON, for those who store bytes. Only its id
// differs, so that making it costs them nothing.
func newBytes(n int64) []byte {
	b := bytes.Clone(template)
	hex.Encode(b[idAt:], binary.BigEndian.AppendUint64(nil, uint64(n))[2:])
	return b
}

var template = func() []byte {
	e := newEvent(100)
	e.Complete(e.Timestamp)
	return e.AppendJSON(nil)
}()

// idAt is where the last 12 digits of the id stand in template.
const idAt = len(`{"id":"00000000-0000-0000-0000-`)

// realistic returns some events as they occur: incidents of an operator, and
// requests to an API server, no two alike.
func realistic(seed int64) []*event.Event {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	var events []*event.Event
	for _, in := range demo.Incidents(uint64(seed)) {
		events = append(events, in.Events...)
	}
	lines := bytes.Split(bytes.TrimSpace(examples.KubeAudit), []byte("\n"))
	for range len(events) {
		e, err := intake.KubeAudit(lines[rng.IntN(len(lines))])
		if err != nil {
			panic(err)
		}
		events = append(events, e)
	}
	for _, e := range events {
		e.ID = event.NewID(time.Now())
	}
	return events
}
