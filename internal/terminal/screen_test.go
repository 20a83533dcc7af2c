package terminal_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/graven-audit/graven/internal/terminal"
)

func TestAScreenShowsTheSameHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	const text = "a\tb\r\n\x1b[2J é \u009b31m \u202e \U000e0041 \U0001f600 €"
	const want = `a` + "\t" + `b\u000d` + "\n" + `\u001b[2J é \u009b31m \u202e \udb40\udc41 ` + "\U0001f600 €"
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := terminal.NewScreen(&out)
		for at := 0; at < len(text); at += size {
			part := text[at:min(at+size, len(text))]
			if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if out.String() != want {
			t.Fatalf("in parts of %d bytes: %q", size, out.String())
		}
	}
}

func TestJSONOnAScreenSaysTheSame(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := terminal.NewScreen(&out).Write([]byte("{\"x\":\"\u009b31m\u202e\U000e0041\"}")); err != nil {
		t.Fatal(err)
	}
	var v struct{ X string }
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || v.X != "\u009b31m\u202e\U000e0041" {
		t.Errorf("%q, %v", v.X, err)
	}
}
