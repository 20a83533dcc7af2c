package terminal

import (
	"bytes"
	"io"
	"os"
	"unicode/utf8"

	"github.com/graven-audit/graven/internal/legible"
)

// Screen returns w or, if it is a terminal, a writer that replaces what the
// terminal would act upon, but for tabs and the ends of lines. JSON says the same
// as before.
func Screen(w io.Writer) io.Writer {
	if isTerminal(w) {
		return &screen{w: w}
	}
	return w
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A screen keeps the beginning of a rune until the rest of it comes.
type screen struct {
	w    io.Writer
	rest []byte
}

// Write implements io.Writer.
func (s *screen) Write(data []byte) (int, error) {
	text := append(s.rest, data...)
	end := len(text)
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				end -= n
			}
			break
		}
	}
	s.rest = bytes.Clone(text[end:])
	_, err := io.WriteString(s.w, legible.Replace(string(text[:end]), func(r rune) bool { return r != '\t' && legible.Hostile(r) }))
	if err != nil {
		return 0, err
	}
	return len(data), nil
}
