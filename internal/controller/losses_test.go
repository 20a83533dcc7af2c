package controller

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func went(name, uid string) *unstructured.Unstructured {
	u := newAuditEvent()
	u.SetNamespace("production")
	u.SetName(name)
	u.SetUID(types.UID(uid))
	return u
}

func TestWhatWentIsKeptUntilItIsSettled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "unsealed")
	l, err := openLosses(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)
	for _, uid := range []string{"1", "2", "1"} {
		if err := l.add(went("a", uid), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "3.json.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = openLosses(dir, slog.New(slog.DiscardHandler)); err != nil { // as after a kill
		t.Fatal(err)
	}
	name := types.NamespacedName{Namespace: "production", Name: "a"}
	gone, err := l.of(name)
	if err != nil || len(gone) != 2 || !gone[0].GetDeletionTimestamp().Time.Equal(at) || len(l.names()) != 1 {
		t.Fatal(gone, err)
	}
	for _, u := range gone {
		if err := l.settled(u); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := l.of(name); err != nil || len(gone) > 0 || len(l.names()) > 0 {
		t.Error(gone, err)
	}
}

func TestWhatWentAndCannotBeWrittenIsInMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "unsealed")
	l, err := openLosses(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	u := went("a", "1")
	if l.add(u, time.Now()) == nil {
		t.Fatal("it was written")
	}
	if gone, err := l.of(nameIn(u)); err != nil || len(gone) != 1 {
		t.Error(gone, err)
	}
	if err := l.settled(u); err != nil || len(l.names()) > 0 {
		t.Error(l.names(), err)
	}
}

func TestWhatIsDamagedOnDiskIsSetAsideAndTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	l, err := openLosses(dir, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil || len(l.names()) > 0 || !strings.Contains(told.String(), "1.json.damaged") {
		t.Error(err, told.String())
	}
	if text, err := os.ReadFile(filepath.Join(dir, "1.json.damaged")); err != nil || string(text) != "{" {
		t.Error(string(text), err)
	}
}
