package intake

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Documents calls fn for each JSON document of an input of any length: lines,
// or the elements of an array. where names the document.
func Documents(in io.Reader, fn func(where string, raw []byte) error) error {
	r := bufio.NewReaderSize(in, 1<<20)
	first, err := firstByte(r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(r)
	if first == '[' {
		if _, err := dec.Token(); err != nil {
			return err
		}
	}
	for n := 1; dec.More(); n++ {
		where := fmt.Sprintf("document %d", n)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if err := fn(where, raw); err != nil {
			return err
		}
	}
	if first == '[' {
		_, err = dec.Token()
	}
	return err
}

// firstByte looks at the first byte that is no white space; 0 stands for none.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
			return b, r.UnreadByte()
		}
	}
}
