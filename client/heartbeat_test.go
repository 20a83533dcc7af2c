package client_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// types returns the types of the events that the ledger has, without those of
// others than recorders.
func (l *ledger) types(t *testing.T) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var types []string
	for _, e := range l.events {
		if e.Resource.Kind == "Recorder" {
			types = append(types, strings.TrimPrefix(e.EventType, "Recorder"))
		}
		if e.EventType == event.TypeHeartbeat {
			var d struct{ WithinSeconds int64 }
			if err := json.Unmarshal(e.Details, &d); err != nil || d.WithinSeconds != 60 || e.Actor.Name != "operator-0" || e.Severity != event.SeverityInfo {
				t.Errorf("%s, %v", e.AppendJSON(nil), err)
			}
		}
	}
	return strings.Join(types, " ")
}

func TestARecorderThatLivesSaysSoAndSaysFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		dir := t.TempDir()
		r := record(t, &l, client.RecorderConfig{Dir: dir, Heartbeat: time.Minute})
		time.Sleep(65 * time.Second)
		if got := l.types(t); got != "Heartbeat Heartbeat Heartbeat" {
			t.Error(got)
		}
		// While the server is away, one waits, however long.
		l.set(away)
		time.Sleep(time.Hour)
		if n := r.Stats().Pending; n != 1 {
			t.Errorf("%d heartbeats wait", n)
		}
		l.set(nil)
		time.Sleep(2 * time.Minute)
		before := l.types(t)
		began := time.Now()
		for range 2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.types(t); got != before+" Stopped" || time.Since(began) > time.Second {
			t.Errorf("%q, then %q, %s later", before, got, time.Since(began))
		}
		// A server that is away keeps nobody from leaving.
		l.set(away)
		r = record(t, &l, client.RecorderConfig{Dir: dir, Heartbeat: time.Minute})
		time.Sleep(time.Minute)
		began = time.Now()
		if err := r.Close(); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		l.set(nil)
		r = record(t, &l, client.RecorderConfig{Dir: dir})
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.types(t); got != before+" Stopped Heartbeat Stopped" {
			t.Error(got)
		}
	})
}

func TestAFullSpoolKeepsNobodyFromLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		var problems []string
		l.set(away)
		r := record(t, &l, client.RecorderConfig{MaxBytes: 16 << 10, OnFull: client.Block, Heartbeat: time.Minute, OnProblem: func(err error) {
			if strings.Contains(err.Error(), "farewell") {
				problems = append(problems, err.Error())
			}
		}})
		for r.Stats().Bytes < 16<<10 {
			put(t, r, "x")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if len(problems) != 1 || !strings.Contains(problems[0], "full") {
			t.Errorf("%q", problems)
		}
	})
}

func TestAPromiseThatCannotBeKeptIsRefused(t *testing.T) {
	c, err := client.New(client.Config{URL: "http://ledger.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Minute, time.Millisecond} {
		if _, err := c.NewRecorder(client.RecorderConfig{Dir: t.TempDir(), Heartbeat: d}); err == nil || !strings.Contains(fmt.Sprint(err), "heartbeat: ") {
			t.Errorf("%s: %v", d, err)
		}
	}
}
