package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/graven-audit/graven/internal/seglog"
)

// epochFile names the spool's count of items, which goes from 1 on:
//
//	the name, a line feed
//
// It is durable before the first item is put in.
const epochFile = "epoch"

// maxEpoch bounds a name, in bytes.
const maxEpoch = 64

// Epoch names the spool's count of items. A spool that lost its items, and with
// them its count, begins another. It is empty for a spool that had items before
// counts had names.
func (s *Spool) Epoch() string { return s.epoch }

// beginEpoch reads the name of the spool's count, or begins one. The log and the
// cursor are open; at least one segment is there once an item was put in.
func (s *Spool) beginEpoch() error {
	path := filepath.Join(s.dir, epochFile)
	begun := len(s.log.Segments()) > 0
	data, err := readFile(s.o.FS, path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	name, whole := strings.CutSuffix(string(data), "\n")
	known := whole && name != "" && strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	switch lost := !begun && s.cursor.value > 0; {
	case err == nil && begun && !known:
		return fmt.Errorf("%s: not the name of a count; remove it, and the count goes on without one", path)
	case err == nil && known && !lost, begun:
		s.epoch = name
		return nil
	case lost && s.o.OnDamage != nil:
		if err := s.o.OnDamage(Damage{Epoch: name, File: queueDir, Reason: "all segment files are gone, and with them what was in them",
			First: s.cursor.value, End: s.cursor.value}); err != nil {
			return err
		}
	}
	// The name first: with the old one, numbers would be given out twice.
	name = rand.Text()
	if err := seglog.WriteFile(s.o.FS, path, []byte(name+"\n")); err != nil {
		return err
	}
	if err := s.cursor.reset(); err != nil {
		return err
	}
	s.epoch = name
	return nil
}

// readFile reads a small file.
func readFile(fs seglog.FS, path string) ([]byte, error) {
	f, err := fs.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	data := make([]byte, min(size, maxEpoch+2)) // more is no name
	if err == nil && len(data) > 0 {
		_, err = f.ReadAt(data, 0)
	}
	return data, errors.Join(err, f.Close())
}
