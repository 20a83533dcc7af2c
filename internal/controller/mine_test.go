package controller

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var auditEvents = schema.GroupResource{Group: "platform.chatcli.io", Resource: "auditevents"}

func TestOnlyWhoAsksForANameThatIsBeingMadeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMine()
		m.begin(time.Unix(1000, 0))
		a, b := went("a", "1"), went("b", "2")
		later := metav1.Unix(2000, 0)
		a.SetCreationTimestamp(later)
		b.SetCreationTimestamp(later)
		made := make(chan struct{})
		go func() {
			if err := m.make(a, func() error { <-made; return nil }); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if m.may(b) {
			t.Error("another's is ours")
		}
		ours := make(chan bool, 1)
		go func() { ours <- m.may(a) }()
		synctest.Wait()
		if len(ours) > 0 {
			t.Fatal("it was judged before it was known")
		}
		close(made)
		if !<-ours {
			t.Error("ours is another's")
		}
		if m.forget("1"); m.may(a) {
			t.Error("it is not forgotten")
		}
	})
}

func TestWhatMayHaveBeenMadeIsNotCalledAnothers(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		ours bool
	}{
		"the connection broke":  {errors.New("EOF"), true},
		"it took too long":      {apierrors.NewTimeoutError("", 1), true},
		"it was refused":        {apierrors.NewForbidden(auditEvents, "a", nil), false},
		"the name was taken":    {apierrors.NewAlreadyExists(auditEvents, "a"), false},
		"the request was wrong": {apierrors.NewBadRequest(""), false},
	} {
		m := newMine()
		m.begin(time.Unix(1000, 0))
		u := went("a", "1")
		u.SetCreationTimestamp(metav1.Unix(2000, 0))
		if err := m.make(u, func() error { return test.err }); !errors.Is(err, test.err) {
			t.Error(err)
		}
		if m.may(u) != test.ours {
			t.Errorf("%s: ours %v", name, !test.ours)
		}
	}
}

// TestWhatWasThereBeforeMayBeAnOlderOperators: as long as the operator does not work,
// all of it.
func TestWhatWasThereBeforeMayBeAnOlderOperators(t *testing.T) {
	m := newMine()
	u := went("a", "1")
	u.SetCreationTimestamp(metav1.Unix(2000, 0))
	if !m.may(u) {
		t.Error("before it begins")
	}
	if m.begin(time.Unix(2000, 5)); !m.may(u) {
		t.Error("of the same second")
	}
	if u.SetCreationTimestamp(metav1.Unix(2001, 0)); m.may(u) {
		t.Error("after it began")
	}
}
