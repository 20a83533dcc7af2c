package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	byName map[types.NamespacedName][]types.UID
	kept   map[types.UID]*unstructured.Unstructured // what could not be written
}

// openLosses reads what is in a directory, which is made if it is not there. A file
// that cannot be understood is set aside, with a name that ends in .damaged.
func openLosses(dir string, log *slog.Logger) (*losses, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	l := &losses{dir: dir, byName: map[types.NamespacedName][]types.UID{}, kept: map[types.UID]*unstructured.Unstructured{}}
	for _, entry := range entries {
		uid, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue // half written, before the API server was heard out
		}
		u, err := l.read(types.UID(uid))
		if errors.Is(err, errDamaged) {
			path := l.path(types.UID(uid))
			log.Error("what an AuditEvent was that went before it was sealed cannot be read, and is set aside", "error", err, "file", path+".damaged")
			if err := os.Rename(path, path+".damaged"); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		l.byName[nameIn(u)] = append(l.byName[nameIn(u)], types.UID(uid))
	}
	return l, nil
}

// errDamaged means that a file is none of ours any more.
var errDamaged = errors.New("damaged")

func (l *losses) read(uid types.UID) (*unstructured.Unstructured, error) {
	text, err := os.ReadFile(l.path(uid))
	if err != nil {
		return nil, err
	}
	u := newAuditEvent()
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errDamaged, l.path(uid), err)
	}
	if u.GetDeletionTimestamp() == nil {
		created := u.GetCreationTimestamp()
		u.SetDeletionTimestamp(&created)
	}
	return u, nil
}

func nameIn(u *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}
}

func (l *losses) path(uid types.UID) string {
	return filepath.Join(l.dir, filepath.Base(string(uid))+".json")
}

// add keeps an object that is gone, with when it went. If it cannot be written, it
// is kept in memory.
func (l *losses) add(u *unstructured.Unstructured, now time.Time) error {
	if u.GetDeletionTimestamp() == nil {
		u.SetDeletionTimestamp(&metav1.Time{Time: now})
	}
	text, err := json.Marshal(u)
	if err == nil {
		err = seglog.WriteFile(seglog.OS{}, l.path(u.GetUID()), text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.kept[u.GetUID()] = u
	}
	if name := nameIn(u); !slices.Contains(l.byName[name], u.GetUID()) {
		l.byName[name] = append(l.byName[name], u.GetUID())
	}
	return err
}

// of returns those of a name.
func (l *losses) of(name types.NamespacedName) ([]*unstructured.Unstructured, error) {
	l.mu.Lock()
	uids := slices.Clone(l.byName[name])
	l.mu.Unlock()
	var all []*unstructured.Unstructured
	for _, uid := range uids {
		l.mu.Lock()
		u := l.kept[uid]
		l.mu.Unlock()
		if u == nil {
			var err error
			if u, err = l.read(uid); errors.Is(err, fs.ErrNotExist) {
				continue // it was settled meanwhile
			} else if err != nil {
				return nil, err
			}
		}
		all = append(all, u)
	}
	return all, nil
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
	uid, name := u.GetUID(), nameIn(u)
	if err := os.Remove(l.path(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, uid)
	l.byName[name] = slices.DeleteFunc(l.byName[name], func(other types.UID) bool { return other == uid })
	if len(l.byName[name]) == 0 {
		delete(l.byName, name)
	}
	return nil
}
