package seglog

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// An FS is the part of a file system that a log needs. Tests put faults in it.
type FS interface {
	// Open opens or, if flag has os.O_CREATE, makes a file.
	Open(name string, flag int) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// SyncDir makes creations, removals and renamings in dir durable.
	SyncDir(dir string) error
}

// A File is a file that can be made durable.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes data, and the metadata needed to read it, durable.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

// OS is the machine's file system. Files are made with mode 0600.
type OS struct{}

var _ FS = OS{}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (OS) Open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (OS) Remove(name string) error { return os.Remove(name) }

func (OS) Rename(from, to string) error { return os.Rename(from, to) }

func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile replaces a file by one with the given content, atomically and
// durably: after a crash the old content or the new is there, whole.
func WriteFile(fs FS, name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := fs.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fs.Remove(tmp))
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(name))
}
