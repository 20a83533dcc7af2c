package jcs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/jcs"
)

func TestAnArrayIsSplitWhateverItsElementsAre(t *testing.T) {
	for in, want := range map[string][]string{
		`[]`:                           {},
		" [ ]\n":                       {},
		`[1]`:                          {"1"},
		`[ {"a":[1,2]} , [3,{}] ]`:     {`{"a":[1,2]}`, `[3,{}]`},
		`["a,b]","\\",{"\"}":","}]`:    {`"a,b]"`, `"\\"`, `{"\"}":","}`},
		`[1,,NaN,]`:                    {"1", "", "NaN", ""},
		"[\"\xff\",{\"a\":1,\"a\":2}]": {"\"\xff\"", `{"a":1,"a":2}`},
		`[1,2,3,4,5,6]`:                {"1", "2", "3", "4"},
	} {
		got, err := jcs.Elements([]byte(in), 3)
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "{}", "1", "[", "[1", `["`, `["\"]`, "[1]]", "[1][2]", "[1]x", "[{]", "[1}"} {
		if got, err := jcs.Elements([]byte(in), 3); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}

// FuzzElements holds the splitting of sound arrays against encoding/json.
func FuzzElements(f *testing.F) {
	for _, in := range []string{`[]`, `[1,"a,]",{"b":[2]}]`, `[[],[[]]]`, `["\\\"",null]`} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := jcs.Elements([]byte(in), 1<<20)
		var want []json.RawMessage
		if json.Unmarshal([]byte(in), &want) != nil || !strings.HasPrefix(strings.TrimSpace(in), "[") {
			return // only that it does not panic
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %q, %v", in, got, err)
		}
		for i := range got {
			if string(got[i]) != strings.TrimSpace(string(want[i])) {
				t.Errorf("element %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}
