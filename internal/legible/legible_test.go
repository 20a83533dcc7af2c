package legible_test

import (
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/legible"
)

func TestWhatATerminalWouldActUponIsShown(t *testing.T) {
	for given, want := range map[string]string{
		"plain, with ümlaut and 日本": "plain, with ümlaut and 日本",
		"\x1b[2Jgone":               `\u001b[2Jgone`,
		"a\u202egpj.exe":            `a\u202egpj.exe`,
		"two\nlines\r":              `two lines\u000d`,
		"\U000e0041":                `\udb40\udc41`,
	} {
		if got := legible.Line(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
	if got := legible.Text("a\nb"); got != "a\nb" {
		t.Errorf("%q", got)
	}
}

func TestTextIsNoMarkdown(t *testing.T) {
	for given, want := range map[string]string{
		"rolled back to revision 5":            "rolled back to revision 5",
		"<script>alert(1)</script>":            "&lt;script&gt;alert(1)&lt;/script&gt;",
		"![x](https://evil.example/p.png)":     `!\[x\](https\://evil.example/p.png)`,
		"| a | b |\n# head\n- [ ] task":        `\| a \| b \| \# head - \[ \] task`,
		"**bold** _it_ `code` ~~no~~ $x$":      "\\*\\*bold\\*\\* \\_it\\_ \\`code\\` \\~\\~no\\~\\~ \\$x\\$",
		"back\\slash &amp; www.evil.example\\": `back\\slash &amp;amp; www\.evil.example\\`,
		"\x1b]0;title\a":                       `\\u001b\]0;title\\u0007`,
	} {
		if got := legible.Markdown(given); got != want {
			t.Errorf("%q:\n got %q\nwant %q", given, got, want)
		}
	}
}

func TestALongTextIsCutAmidNoLetter(t *testing.T) {
	if got := legible.Cut(strings.Repeat("ü", 10), 4); got != "üüü…" {
		t.Errorf("%q", got)
	}
	if got := legible.Cut("üüüü", 4); got != "üüüü" {
		t.Errorf("%q", got)
	}
}
