package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/graven-audit/graven/internal/seglog"
)

// losses are the AuditEvents that went before they were sealed: with their
// namespace, which nobody may keep from ending, or where no policy keeps them.
// They are on disk until they are in the ledger, a file each.
type losses struct {
	dir string

	mu     sync.Mutex
	byName map[types.NamespacedName][]*unstructured.Unstructured
}

// openLosses reads what is in a directory, which is made if it is not there.
func openLosses(dir string) (*losses, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	l := &losses{dir: dir, byName: map[types.NamespacedName][]*unstructured.Unstructured{}}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue // half written, before the API server was heard out
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		u := newAuditEvent()
		if err := u.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("read %s: %w", entry.Name(), err)
		}
		l.byName[nameIn(u)] = append(l.byName[nameIn(u)], u)
	}
	return l, nil
}

func nameIn(u *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}
}

func (l *losses) path(u *unstructured.Unstructured) string {
	return filepath.Join(l.dir, filepath.Base(string(u.GetUID()))+".json")
}

// add keeps an object that is gone. It is remembered even if it cannot be written.
func (l *losses) add(u *unstructured.Unstructured) error {
	l.mu.Lock()
	l.byName[nameIn(u)] = append(l.byName[nameIn(u)], u)
	l.mu.Unlock()
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, l.path(u), text)
}

// of returns those of a name.
func (l *losses) of(name types.NamespacedName) []*unstructured.Unstructured {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*unstructured.Unstructured(nil), l.byName[name]...)
}

// names returns the names of all.
func (l *losses) names() []types.NamespacedName {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []types.NamespacedName
	for name := range l.byName {
		names = append(names, name)
	}
	return names
}

// settled forgets one that is in the ledger.
func (l *losses) settled(u *unstructured.Unstructured) error {
	if err := os.Remove(l.path(u)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var left []*unstructured.Unstructured
	for _, other := range l.byName[nameIn(u)] {
		if other.GetUID() != u.GetUID() {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(l.byName, nameIn(u))
	} else {
		l.byName[nameIn(u)] = left
	}
	return nil
}
