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
	began chan struct{} // closed once since is set
	since time.Time     // when this operator began to work

	mu   sync.Mutex // held while one is created
	uids map[types.UID]bool
	// unsure are names under which one may have been created.
	unsure map[types.NamespacedName]bool
}

func newMine() *mine {
	return &mine{began: make(chan struct{}), uids: map[types.UID]bool{}, unsure: map[types.NamespacedName]bool{}}
}

// begin says that what is created from now on, this operator has created, or
// somebody who is none.
func (m *mine) begin(now time.Time) {
	m.since = now
	close(m.began)
}

// make creates an object, and remembers it. If it is not known whether it was
// created, its name is remembered.
func (m *mine) make(u *unstructured.Unstructured, create func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := create()
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
	select {
	case <-m.began:
		return !u.GetCreationTimestamp().After(m.since)
	default:
		return true
	}
}

// may reports whether an operator may have created an object: this one, or one
// before it, of which nothing is known.
func (m *mine) may(u *unstructured.Unstructured) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.uids[u.GetUID()] || m.unsure[nameIn(u)] || m.before(u)
}
