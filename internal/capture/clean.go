package capture

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"

	"github.com/graven-audit/graven/internal/redact"
)

// Clean returns a copy of an object without credentials. In the place of each stands
// a digest that tells whether it is the same as before, and nothing else to who has
// not the key: HMAC-SHA-256 of its JSON, of which there are 16 bytes. It is to be
// called before a state is kept anywhere, or shown to a policy.
func Clean(object map[string]any, key []byte) map[string]any {
	if object == nil {
		return nil
	}
	r := redact.Redactor{Replace: func(credential any) string {
		text, err := json.Marshal(credential)
		if err != nil {
			return "(removed)"
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		return "hmac:" + hex.EncodeToString(mac.Sum(nil)[:16])
	}}
	top := redact.At("object")
	return r.Clean(copied(object), redact.Plain, top).(map[string]any)
}

// copied returns a copy of decoded JSON.
func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, member := range v {
			m[name] = copied(member)
		}
		return m
	case []any:
		all := make([]any, len(v))
		for i, element := range v {
			all[i] = copied(element)
		}
		return all
	}
	return v
}

// Digest returns the digest of what a state says: SHA-256 of its JSON without the
// resourceVersion. It is empty for none.
func Digest(object map[string]any) string {
	if object == nil {
		return ""
	}
	said := maps.Clone(object)
	if meta, ok := said["metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		delete(meta, "resourceVersion")
		said["metadata"] = meta
	}
	text, err := json.Marshal(said) // maps in order of their keys
	if err != nil {
		return "" // which is that of nothing
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
