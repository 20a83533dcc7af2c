package paper

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Sheet is a document.
type Sheet struct {
	Title string
	// Subtitle says what it is about, such as a namespace and a window.
	Subtitle string
	// Facts stand on top: what it was made from.
	Facts []Fact
	// Warnings are what a reader must know first.
	Warnings []string
	Parts    []Part
	// Footer stands at the end of each page.
	Footer string
}

// A Fact is a name with what it is.
type Fact struct{ Name, Value string }

// A Part is a section. What it does not have is not shown.
type Part struct {
	Title string
	Text  []string // paragraphs
	Bars  []Bar
	Table *Table
}

// A Bar is one of a chart.
type Bar struct {
	Label string
	Value float64
	Text  string // the value, as it is to be read
}

// A Table has columns and rows.
type Table struct {
	Columns []Column
	Rows    [][]string
}

// A Column of a table. Share is how wide it is beside the others; 0 means 1.
type Column struct {
	Title  string
	Number bool // set to the right
	Share  float64
}

// CSV writes rows with a byte order mark, by which spreadsheets know UTF-8. A field that
// one might take for a formula begins with an apostrophe.
func CSV(rows [][]string) []byte {
	var out bytes.Buffer
	out.WriteString("\ufeff")
	w := csv.NewWriter(&out)
	w.UseCRLF = true // RFC 4180
	safe := make([]string, 0, 16)
	for _, row := range rows {
		safe = safe[:0]
		for _, field := range row {
			safe = append(safe, Field(field))
		}
		if err := w.Write(safe); err != nil {
			panic(fmt.Sprintf("internal error: CSV into memory: %v", err))
		}
	}
	w.Flush()
	return out.Bytes()
}

// Field returns a text as a spreadsheet may have it: one that is no number and begins as
// a formula does has an apostrophe before it.
func Field(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	first, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(text, unicode.IsSpace))
	switch first {
	case '=', '+', '@', '\uff1d', '\uff0b', '\uff0d', '\uff20':
		return "'" + text
	case '-':
		if !number(text) {
			return "'" + text
		}
	}
	if text != "" && strings.ContainsRune("\t\r\n\x00", rune(text[0])) {
		return "'" + text
	}
	return text
}

func number(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return digits != "" && strings.Trim(digits, "0123456789.") == "" && strings.Count(digits, ".") < 2
}

// plain returns a text without what a reader cannot see, or what turns it round.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}
