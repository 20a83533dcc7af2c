package terminal_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v2"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/terminal"
	"github.com/graven-audit/graven/verify"
)

func TestNoFieldOfCSVIsAFormula(t *testing.T) {
	for _, name := range []string{"=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1"} {
		var out bytes.Buffer
		if err := (&terminal.List{Events: []terminal.Event{{Event: &event.Event{Actor: event.Actor{Name: name}}}}}).Print(&out, "csv"); err != nil {
			t.Fatal(err)
		}
		records, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := records[1][5]; got != "'"+strings.ReplaceAll(name, "\r\n", "\n") {
			t.Errorf("%q is written as %q", name, got)
		}
	}
}

func TestAnyTextIsPrintedAsYAML(t *testing.T) {
	var text strings.Builder
	for r := rune(0); r <= 0x2fff; r++ {
		text.WriteRune(r)
	}
	for _, r := range []rune{0xd7ff, 0xe000, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1f600, 0xe0001, 0x10ffff} {
		text.WriteRune(r)
	}
	want := map[string]any{text.String(): text.String(), "n": 1 << 50, "x": 0.5, strings.Repeat("long", 1000): []any{true, nil}}
	for name, doc := range map[string]any{"a value": want, "raw JSON": json.RawMessage(jcs(t, want))} {
		var out bytes.Buffer
		if err := terminal.Document(&out, "yaml", doc); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got map[string]any
		if err := yaml.Unmarshal(out.Bytes(), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s comes back as another: %v", name, err)
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
			t.Errorf("%s: a control character is printed: %q", name, out.String()[i:i+8])
		}
	}
}

// jcs writes JSON as servers do, with raw characters wherever JSON allows them.
func jcs(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return []byte(strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029").Replace(out.String()))
}

func TestAReportSaysWhatIsWrongAndWhatTheVerdictRestsOn(t *testing.T) {
	good := verify.Report{Target: "data", Origin: "a.example", Size: 3, Entries: 3, Details: 2, Notes: []string{"n"}, Unproven: []string{"u"}}
	known, wrong := good, good
	known.Authenticated = true
	wrong.Findings, wrong.Omitted = []verify.Finding{{Kind: verify.Changed, Index: 2, Where: "log/x", Message: "m\x1b[2J"}, {Kind: verify.Missing, Index: -1, Message: "all"}}, 4
	for _, tt := range []struct {
		r    verify.Report
		want []string
	}{
		{good, []string{"data\n", "checked   3 entries, 2 with details", "note      n", "unproven  u", "GOOD: self-consistent, key not authenticated"}},
		{known, []string{"ledger    a.example", "GOOD: everything matches"}},
		{wrong, []string{"WRONG     changed: entry 2: m\\u001b[2J (log/x)", "WRONG     missing: all\n", "and 4 findings more", "FAILED: 6 findings"}},
	} {
		var b bytes.Buffer
		if err := terminal.PrintReport(&b, &tt.r); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in:\n%s", want, b.String())
			}
		}
	}
}
