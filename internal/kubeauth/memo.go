package kubeauth

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// A memo remembers answers for a while. Those who ask the same at the same time
// share one question. Errors are not remembered.
type memo[V any] struct {
	metrics *Metrics

	mu      sync.Mutex
	answers map[string]answer[V]
	asking  singleflight.Group
}

type answer[V any] struct {
	value V
	until time.Time
}

// maxAnswers bounds the answers that are remembered.
const maxAnswers = 4096

// get returns the answer for a key, which load finds out, with how long it is to
// be believed.
func (m *memo[V]) get(ctx context.Context, key string, load func(context.Context) (V, time.Duration, error)) (V, error) {
	m.mu.Lock()
	known, ok := m.answers[key]
	m.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		m.metrics.asked(true)
		return known.value, nil
	}
	m.metrics.asked(false)
	// Whoever asks first may go; the others still want to know.
	done := m.asking.DoChan(key, func() (any, error) {
		began := time.Now() // what was asked first may be answered long after
		value, lives, err := load(context.WithoutCancel(ctx))
		if err == nil {
			m.remember(key, value, began.Add(lives))
		}
		return value, err
	})
	select {
	case r := <-done:
		return r.Val.(V), r.Err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// has reports whether there is an answer for a key.
func (m *memo[V]) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.answers[key]
	return ok && time.Now().Before(known.until)
}

// remember remembers an answer until a time.
func (m *memo[V]) remember(key string, value V, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answers == nil {
		m.answers = map[string]answer[V]{}
	}
	if len(m.answers) >= maxAnswers {
		now := time.Now()
		for key, old := range m.answers {
			if len(m.answers) < maxAnswers && now.Before(old.until) {
				continue
			}
			delete(m.answers, key) // what is past, and one more if that is none
		}
	}
	m.answers[key] = answer[V]{value, until}
}
