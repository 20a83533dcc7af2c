// Package legible writes text from anywhere so that who shows it does not act upon it:
// a terminal, or what renders Markdown.
package legible

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Hostile reports whether a rune is a control, but for the end of a line, or changes the
// direction of text, or is not seen.
func Hostile(r rune) bool {
	return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar
}

// Text replaces what a terminal would act upon.
func Text(s string) string { return Replace(s, Hostile) }

// Line is Text on one line.
func Line(s string) string { return strings.ReplaceAll(Text(s), "\n", " ") }

// Replace replaces runes as JSON does.
func Replace(s string, which func(rune) bool) string {
	if strings.IndexFunc(s, which) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if which(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&b, "\\u%04x", unit)
			}
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Cut shortens text to a number of runes, and shows that it did.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// marks are the runes by which text becomes more than text in Markdown: emphasis, code,
// links, images, tables, formulas, HTML, and what is made a link by itself. Dashes, dots
// and plus signs are marks at the beginning of a line only.
var marks = strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "#", "\\#", "|", "\\|", "~", "\\~",
	"$", "\\$", "@", "\\@", "&", "&amp;", "<", "&lt;", ">", "&gt;", "www.", "www\\.", "WWW.", "WWW\\.")

// Markdown is Line for a place within a line of Markdown, in a table's cell, too: it is
// shown as it is, and is no markup and no HTML.
func Markdown(s string) string { return colons.ReplaceAllString(marks.Replace(Line(s)), `\:$1`) }

// colons are those by which a word may become a link, or a picture.
var colons = regexp.MustCompile(`:([^\s\d])`)
