package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	// maxTip bounds what is read of a tip record: one is 1 KiB long.
	maxTip = 64 << 10
	// maxSmall bounds what is read of other files that are small by nature.
	maxSmall = 1 << 20
)

// ReadTip reads a tip record as it stands in its file, to which a server may be
// writing: only what is read twice alike counts. It returns nil where there is
// none.
func ReadTip(path string) (tip []byte, err error) {
	for range 10 {
		data, err := readUpTo(path, maxTip)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil || bytes.Equal(data, tip) {
			return data, err
		}
		tip = data
	}
	return tip, nil
}

// readUpTo reads the beginning of a file, and waits for no pipe.
func readUpTo(path string, limit int64) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file (%s)", path, info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}
