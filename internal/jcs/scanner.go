// Package jcs reads JSON strictly and writes it canonically: the JSON
// Canonicalization Scheme of RFC 8785.
//
// Reading is strict where encoding/json is lenient, because what is hashed
// must mean one thing only: strings must be valid UTF-8 without NUL or lone
// surrogates, member names must not repeat, and an integer that a float64
// cannot hold exactly is refused rather than rounded. Every error names the
// place in the document.
package jcs

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An Error says what is wrong with a document, and where.
type Error struct {
	// Path names the member, such as "actor.name" or "details.pods[3]"; it is
	// empty where the document as a whole is at fault.
	Path   string
	Reason string
	offset int
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// A Scanner reads one JSON document from the front.
type Scanner struct {
	data    []byte
	pos     int
	members []member // a stack, used by Canonical
	scratch []byte
}

// NewScanner returns a Scanner over data, which must not change while it is used.
func NewScanner(data []byte) *Scanner { return &Scanner{data: data} }

// skipDepth bounds the nesting of values that are only skipped.
const skipDepth = 100

// End reports anything but white space after the document.
func (s *Scanner) End() error {
	if s.space(); s.pos < len(s.data) {
		return s.fail("unexpected %s after the end of the document", s.found())
	}
	return nil
}

// Offset returns how many bytes were read.
func (s *Scanner) Offset() int { return s.pos }

// Kind returns the first byte of the next value: one of { [ " t f n - or a
// digit for well-formed input, 0 at the end.
func (s *Scanner) Kind() byte {
	s.space()
	if s.pos == len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

// Object reads an object and calls fn for each member, in order, with the
// decoded name; fn must read exactly the member's value. The name is valid
// only during the call. Repeated names are for the caller to refuse, except
// under [Scanner.Canonical] and [Scanner.Skip].
func (s *Scanner) Object(fn func(name []byte) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	if s.Kind() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.Kind() != '"' {
			return s.fail("expected a member name, found %s", s.found())
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if s.Kind() != ':' {
			return s.fail("expected ':' after a member name, found %s", s.found())
		}
		s.pos++
		if err := fn(name); err != nil {
			return Within(string(name), err)
		}
		switch s.Kind() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.fail("expected ',' or '}' in an object, found %s", s.found())
		}
	}
}

// Members is [Scanner.Object] for objects in which no name may stand twice.
func (s *Scanner) Members(fn func(name []byte) error) error {
	seen := map[string]bool{}
	return s.Object(func(name []byte) error {
		if seen[string(name)] {
			return &Error{Reason: "stands twice"}
		}
		seen[string(name)] = true
		return fn(name)
	})
}

// Array reads an array and calls fn for each element; fn must read exactly it.
func (s *Scanner) Array(fn func(i int) error) error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	if s.Kind() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := fn(i); err != nil {
			return Within("["+strconv.Itoa(i)+"]", err)
		}
		switch s.Kind() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.fail("expected ',' or ']' in an array, found %s", s.found())
		}
	}
}

// String reads a string.
func (s *Scanner) String() (string, error) {
	if s.Kind() != '"' {
		return "", s.want("a string")
	}
	b, err := s.text()
	return string(b), err
}

// Int reads an integer within ±(2⁵³-1), which every JSON reader keeps.
func (s *Scanner) Int() (int64, error) {
	if c := s.Kind(); c != '-' && (c < '0' || c > '9') {
		return 0, s.want("a whole number")
	}
	lit, err := s.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(lit), 10, 64)
	if err != nil || n > maxExact || n < -maxExact {
		return 0, s.fail("expected a whole number within ±%d, found %.40s", int64(maxExact), lit)
	}
	return n, nil
}

const maxExact = 1<<53 - 1

// Bool reads true or false.
func (s *Scanner) Bool() (bool, error) {
	switch s.Kind() {
	case 't':
		return true, s.literal("true")
	case 'f':
		return false, s.literal("false")
	}
	return false, s.want("true or false")
}

// Null reads null where it stands next, and reports whether it did.
func (s *Scanner) Null() (bool, error) {
	if s.Kind() != 'n' {
		return false, nil
	}
	return true, s.literal("null")
}

// Skip reads any value, and returns its bytes as they stand.
func (s *Scanner) Skip() ([]byte, error) {
	s.space()
	start := s.pos
	if _, err := s.Canonical(nil, skipDepth); err != nil {
		return nil, err
	}
	return s.data[start:s.pos], nil
}

func (s *Scanner) open(c byte, what string) error {
	if s.Kind() != c {
		return s.want(what)
	}
	s.pos++
	return nil
}

func (s *Scanner) want(what string) error {
	return s.fail("expected %s, found %s", what, s.found())
}

// found describes the next value for an error message.
func (s *Scanner) found() string {
	switch c := s.Kind(); {
	case c == 0 && s.pos == len(s.data):
		return "the end of the document"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || '0' <= c && c <= '9':
		return "a number"
	default:
		r, _ := utf8.DecodeRune(s.data[s.pos:])
		return strconv.QuoteRuneToASCII(r)
	}
}

func (s *Scanner) fail(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...) + " at byte " + strconv.Itoa(s.pos), offset: s.pos}
}

func (s *Scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\n', '\r', '\t':
			s.pos++
		default:
			return
		}
	}
}

func (s *Scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail("expected a value, found %.8q", s.data[s.pos:])
	}
	s.pos += len(word)
	return nil
}

// number reads a number by the grammar of RFC 8259 and returns its bytes.
func (s *Scanner) number() ([]byte, error) {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	at := func(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }
	if at('-') {
		s.pos++
	}
	if at('0') {
		s.pos++
	} else if !digits() {
		return nil, s.fail("malformed number")
	}
	if at('.') {
		s.pos++
		if !digits() {
			return nil, s.fail("malformed number")
		}
	}
	if at('e') || at('E') {
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if !digits() {
			return nil, s.fail("malformed number")
		}
	}
	return s.data[start:s.pos], nil
}

// text reads a string at its opening quote. Without escapes the result is a
// part of the input, not a copy.
func (s *Scanner) text() ([]byte, error) {
	s.pos++
	start, ascii := s.pos, true
	for {
		if s.pos = plain(s.data, s.pos); s.pos == len(s.data) {
			return nil, s.fail("unterminated string")
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			b := s.data[start:s.pos]
			if !ascii && !utf8.Valid(b) {
				return nil, s.fail("not valid UTF-8")
			}
			s.pos++
			return b, nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return nil, s.fail("control character %#02x in a string", c)
		case c >= 0x80:
			ascii = false
		}
		s.pos++
	}
}

// plain returns the index, from i on, of the first byte that is a quote, a
// backslash, a control character or no ASCII, or else len(data). It looks at
// eight bytes at a time.
func plain[T string | []byte](data T, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(data); i += 8 {
		d := data[i : i+8] // one load of little-endian bytes, also from a string
		w := uint64(d[0]) | uint64(d[1])<<8 | uint64(d[2])<<16 | uint64(d[3])<<24 |
			uint64(d[4])<<32 | uint64(d[5])<<40 | uint64(d[6])<<48 | uint64(d[7])<<56
		quote, backslash := w^(ones*'"'), w^(ones*'\\')
		// The lowest bit set is right: a borrow only reaches bytes above it.
		if found := (w | (w - ones*0x20) | (quote - ones) | (backslash - ones)) & tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(data); i++ {
		if c := data[i]; c == '"' || c == '\\' || c < 0x20 || c >= 0x80 {
			break
		}
	}
	return i
}

// escaped goes on where text met the first backslash.
func (s *Scanner) escaped(start int) ([]byte, error) {
	out := append(make([]byte, 0, s.pos-start+32), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, s.fail("not valid UTF-8")
			}
			s.pos++
			return out, nil
		case c < 0x20:
			return nil, s.fail("control character %#02x in a string", c)
		case c != '\\':
			out = append(out, c)
			s.pos++
			continue
		}
		if s.pos+1 == len(s.data) {
			break
		}
		s.pos += 2
		switch e := s.data[s.pos-1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := s.unicode()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, s.fail("unknown escape \\%c", e)
		}
	}
	return nil, s.fail("unterminated string")
}

// unicode reads the digits after \u, and a second \u for a surrogate pair.
func (s *Scanner) unicode() (rune, error) {
	r, ok := s.hex4()
	if !ok {
		return 0, s.fail("malformed \\u escape")
	}
	if r == 0 {
		return 0, s.fail("NUL in a string")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
		s.pos += 2
		if low, ok := s.hex4(); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, s.fail("lone surrogate in a string")
}

func (s *Scanner) hex4() (rune, bool) {
	if len(s.data)-s.pos < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.pos += 4
	return rune(n), true
}

// Within prefixes the path of err with the member or element it happened in.
func Within(name string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	path := name
	if e.Path != "" {
		if e.Path[0] != '[' {
			path += "."
		}
		path += e.Path
	}
	return &Error{Path: path, Reason: e.Reason, offset: e.offset}
}
