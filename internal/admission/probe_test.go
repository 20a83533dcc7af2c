package admission_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/admission"
)

func TestATimeInWhichNobodyAnswersIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		answers := "graven answers"
		var away error
		var gaps []string
		file := filepath.Join(t.TempDir(), "answered.json")
		fails := false
		var mu sync.Mutex // of all of these
		run := func(elected bool) (stop func()) {
			p := &admission.Prober{File: file, Log: slog.New(slog.DiscardHandler), Elected: make(chan struct{}),
				Ask: func(context.Context) ([]string, error) {
					mu.Lock()
					defer mu.Unlock()
					return []string{"another's words", answers}, away
				},
				Gap: func(_ context.Context, since time.Time, reason string) error {
					mu.Lock()
					defer mu.Unlock()
					if fails {
						fails = false
						return errors.New("no room")
					}
					gaps = append(gaps, fmt.Sprintf("%v until %v: %s", since.Sub(began).Round(time.Minute), time.Since(began).Round(time.Minute), reason))
					return nil
				}}
			leads := make(chan struct{})
			if p.Elected = leads; elected {
				close(leads)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Start(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		expect := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(gaps, "; "); got != strings.Join(want, "; ") {
				t.Errorf("gaps %q, want %q", got, want)
			}
			gaps = nil
		}
		then := func(answer string, err error) {
			mu.Lock()
			defer mu.Unlock()
			answers, away = answer, err
		}
		stop := run(true)
		time.Sleep(10 * time.Minute)
		expect()

		// Nobody answers, for a while.
		const words = "graven answers"
		then("", nil)
		time.Sleep(5 * time.Second)
		then(words, nil)
		time.Sleep(55 * time.Second)
		expect()
		then("", nil)
		time.Sleep(2 * time.Minute)
		expect()
		mu.Lock()
		fails = true
		mu.Unlock()
		then(words, nil)
		time.Sleep(time.Minute)
		expect("11m0s until 13m0s: nobody answered it")

		// The API server is away, or the operator is.
		then(words, errors.New("away"))
		time.Sleep(2 * time.Minute)
		then(words, nil)
		time.Sleep(time.Minute)
		expect("14m0s until 16m0s: nobody answered it")
		stop()
		time.Sleep(time.Second)
		stop = run(true)
		time.Sleep(time.Minute)
		expect()
		stop()
		time.Sleep(time.Hour)
		stop = run(true)
		time.Sleep(time.Minute)
		expect("18m0s until 1h18m0s: nobody answered it")
		stop()

		// Another leads, and knows.
		time.Sleep(time.Hour)
		stop = run(false)
		time.Sleep(5 * time.Minute)
		expect()
		stop()
	})
}
