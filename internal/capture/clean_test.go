package capture_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/capture"
)

func TestOfCredentialsOnlyKeyedDigestsAreLeft(t *testing.T) {
	key := []byte("0123456789abcdef")
	for name, text := range map[string]string{
		"a secret":     `{"kind":"Secret","metadata":{"name":"s"},"data":{"password":"CANARY"},"stringData":{"a":"CANARY"}}`,
		"environment":  `{"kind":"Deployment","spec":{"template":{"spec":{"containers":[{"name":"a","env":[{"name":"PASSWORD","value":"CANARY"}]}]}}}}`,
		"last applied": `{"kind":"ConfigMap","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"CANARY","a":"b"}}}`,
		"fields":       `{"kind":"ConfigMap","metadata":{"managedFields":[{"fieldsV1":{"f:CANARY":{}}}]}}`,
		"a token":      `{"kind":"TokenReview","spec":{"token":"CANARY"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := object(t, text)
			clean, err := json.Marshal(capture.Clean(o, key))
			if err != nil || strings.Contains(string(clean), "CANARY") {
				t.Errorf("%s, %v", clean, err)
			}
			if kept, err := json.Marshal(o); err != nil || !strings.Contains(string(kept), "CANARY") {
				t.Errorf("the object itself was changed: %s, %v", kept, err)
			}
		})
	}
	of := func(value string, key string) string {
		return capture.Clean(map[string]any{"kind": "Secret", "data": map[string]any{"k": value}}, []byte(key))["data"].(map[string]any)["k"].(string)
	}
	if same := of("a", "1"); same != of("a", "1") || same == of("b", "1") || same == of("a", "2") || !strings.HasPrefix(same, "hmac:") {
		t.Error("a digest does not tell what is the same")
	}
	if capture.Clean(nil, key) != nil {
		t.Error("nothing became something")
	}
}
