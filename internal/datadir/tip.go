package datadir

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// maxTip bounds what is read of a tip record: one is 1 KiB long.
const maxTip = 64 << 10

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

func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}
