package client_test

import (
	"context"
	"log"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

func ExampleClient_NewRecorder() {
	c, err := client.New(client.Config{URL: "https://graven.example:8090", TokenFile: "/var/run/secrets/graven/token"})
	if err != nil {
		log.Print(err)
		return
	}
	r, err := c.NewRecorder(client.RecorderConfig{Dir: "/var/lib/operator/graven-spool", Source: "operator-0",
		OnProblem: func(err error) { log.Print("graven: ", err) }})
	if err != nil {
		log.Print(err)
		return
	}
	defer r.Close()

	err = r.Record(context.Background(), &event.Event{
		EventType:     "RemediationExecuted",
		Timestamp:     time.Now(),
		Actor:         event.Actor{Type: event.ActorController, Name: "remediation-reconciler"},
		Resource:      event.Resource{Kind: "RemediationPlan", Name: "plan-rollback-api-server", Namespace: "production"},
		CorrelationID: "inc-8f2a4b",
	})
	if err != nil {
		log.Print(err) // it is not recorded: do not go on as if it were
	}
}
