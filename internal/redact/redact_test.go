package redact_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/redact"
)

func TestCredentialsGoInWhateverFormTheyStand(t *testing.T) {
	for text, want := range map[string]string{
		`{"env":[{"name":"A","value":"canary"}]}`:                                    `{"env":[{"name":"A","value":"(removed)"}]}`,
		`{"env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}`: `{"env":[{"name":"A","valueFrom":{"secretKeyRef":{"key":"k","name":"s"}}}]}`,
		`{"env":["A=canary"]}`:                     `{"env":["A=(removed)"]}`,
		`{"env":"A=canary"}`:                       `{"env":"A=(removed)"}`,
		`{"env":{"A":"canary"}}`:                   `{"env":{"A":"(removed)"}}`,
		`{"env":{"A":4711}}`:                       `{"env":{"A":"(removed)"}}`,
		`{"env":{"A":["canary"]}}`:                 `{"env":{"A":["(removed)"]}}`,
		`{"env":{"A":{"text":"canary"}}}`:          `{"env":{"A":{"text":"(removed)"}}}`,
		`{"env":[{"name":"A","secret":"canary"}]}`: `{"env":[{"name":"A","secret":"(removed)"}]}`,
		`{"webhooks":[{"clientConfig":{"service":{"name":"s","path":"/canary/p"},"caBundle":"x"}},{"clientConfig":{"url":"https://h/canary"}}]}`: `{"webhooks":[{"clientConfig":{"caBundle":"x","service":{"name":"s","path":"(removed)"}}},{"clientConfig":{"url":"(removed)"}}]}`,
		`{"labels":{"env":"production"}}`: `{"labels":{"env":"production"}}`,
		`{"metadata":{"annotations":{"kapp.k14s.io/original":"canary","objectset.rio.cattle.io/applied":"canary","a":"b"}}}`: `{"metadata":{"annotations":{"a":"b"}}}`,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		var r redact.Redactor
		got, err := json.Marshal(r.Clean(v, redact.Plain, redact.At("object")))
		if err != nil || string(got) != want || strings.Contains(string(got), "canary") {
			t.Errorf("%s became %s, want %s (%v)", text, got, want, err)
		}
	}
}
