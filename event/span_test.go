package event_test

import (
	"testing"

	"github.com/graven-audit/graven/event"
)

func TestASpanIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]event.Span{
		"e:5":     {Epoch: "e", From: 5, To: 5},
		":1-9":    {From: 1, To: 9},
		"a:b:3-4": {Epoch: "a:b", From: 3, To: 4},
	} {
		if got, err := event.ParseSpan(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "e:", "e:0", "e:-1", "e:5-", "e:5-4", "e:5-5", "e:05", "e:+5", "e:1-2-3", "e:1-9007199254740993", "e:99999999999999999999"} {
		if got, err := event.ParseSpan(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, seed := range []string{"e:5", ":1-9", "a:b:3-4", "e:5-4", "e:-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := event.ParseSpan(text); err == nil && (s.String() != text || s.From < 1 || s.To < s.From) {
			t.Errorf("%q is read as %+v", text, s)
		}
	})
}
