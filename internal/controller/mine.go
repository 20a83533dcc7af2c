package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// mine are the objects that this operator has created. Where the API server does
// not say who created an object, nothing else tells a mirror from its copy.
type mine struct {
	began chan struct{} // closed once since is set
	since time.Time     // when this operator began to work

	mu   sync.Mutex // held while one is created
	uids map[types.UID]bool
}

func newMine() *mine { return &mine{began: make(chan struct{}), uids: map[types.UID]bool{}} }

// begin says that what is created from now on, this operator has created, or
// somebody who is none.
func (m *mine) begin(now time.Time) {
	m.since = now
	close(m.began)
}

// make creates an object, and remembers it.
func (m *mine) make(u *unstructured.Unstructured, create func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := create()
	if err == nil {
		m.uids[u.GetUID()] = true
	}
	return err
}

func (m *mine) add(u *unstructured.Unstructured) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uids[u.GetUID()] = true
}

func (m *mine) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.uids, uid)
}

// may reports whether an operator may have created an object: this one, or one
// before it, of which nothing is known.
func (m *mine) may(u *unstructured.Unstructured) bool {
	<-m.began
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.uids[u.GetUID()] || !u.GetCreationTimestamp().After(m.since)
}
