package controller

import (
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// mine are the objects that this operator has created. Where the API server does
// not say who created an object, nothing else tells a mirror from its copy.
type mine struct {
	mu sync.Mutex
	// since is when this operator began to work, by the API server's clock; zero
	// until then.
	since time.Time
	// making has the names under which one is being created, until that is closed.
	making map[types.NamespacedName]chan struct{}
	uids   map[types.UID]bool
	// unsure are names under which one may have been created.
	unsure map[types.NamespacedName]bool
}

func newMine() *mine {
	return &mine{making: map[types.NamespacedName]chan struct{}{}, uids: map[types.UID]bool{}, unsure: map[types.NamespacedName]bool{}}
}

// begin says that what is created from now on, this operator has created, or
// somebody who is none.
func (m *mine) begin(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = now
}

// make creates an object, and remembers it. If it is not known whether it was
// created, its name is remembered. One is created at a time under a name.
func (m *mine) make(u *unstructured.Unstructured, create func() error) error {
	done := make(chan struct{})
	m.mu.Lock()
	m.making[nameIn(u)] = done
	m.mu.Unlock()
	err := create()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.making, nameIn(u))
	close(done)
	switch {
	case err == nil:
		m.uids[u.GetUID()] = true
		delete(m.unsure, nameIn(u))
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsInternalError(err):
		m.unsure[nameIn(u)] = true
	}
	return err
}

// found says that an object has a name that was to be made: if it was made and
// nobody said so, it is this one.
func (m *mine) found(u *unstructured.Unstructured) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unsure[nameIn(u)] {
		m.uids[u.GetUID()] = true
		delete(m.unsure, nameIn(u))
	}
}

func (m *mine) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.uids, uid)
}

// before reports whether an object was there before this operator began to work.
func (m *mine) before(u *unstructured.Unstructured) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isBefore(u)
}

func (m *mine) isBefore(u *unstructured.Unstructured) bool {
	return m.since.IsZero() || !u.GetCreationTimestamp().After(m.since)
}

// may reports whether an operator may have created an object: this one, or one
// before it, of which nothing is known. It waits until it is known of the object's
// name.
func (m *mine) may(u *unstructured.Unstructured) bool {
	m.mu.Lock()
	for done := m.making[nameIn(u)]; done != nil; done = m.making[nameIn(u)] {
		m.mu.Unlock()
		<-done
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	return m.uids[u.GetUID()] || m.unsure[nameIn(u)] || m.isBefore(u)
}
