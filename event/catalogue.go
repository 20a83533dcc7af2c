package event

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A Type is an entry of the catalogue of event types.
type Type struct {
	Type        string   `json:"type"`
	Family      string   `json:"family"`
	Category    string   `json:"category"`
	Description string   `json:"description"`
	Severity    string   `json:"severity"` // default
	Action      string   `json:"action"`   // default
	Outcome     string   `json:"outcome"`  // default
	Actor       Actor    `json:"actor"`    // usual
	Kind        string   `json:"kind"`     // usual kind of resource
	Details     []string `json:"details"`  // usual keys
	Required    []string `json:"required"` // keys that must be there
	Aliases     []string `json:"aliases"`  // other spellings, accepted on input and in filters
	// Reserved types are recorded by the ledger itself only.
	Reserved bool `json:"reserved,omitempty"`
	// Access types tell of reading; lists, streams and sinks leave them out
	// unless asked for.
	Access bool `json:"access,omitempty"`
}

// A Family groups the types of one producer.
type Family struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

//go:generate go run ../internal/gen
//go:embed catalogue.json
var catalogueJSON []byte

type catalogue struct {
	Families []Family `json:"families"`
	Types    []Type   `json:"types"`
	byName   map[string]int
	reserved map[string]string // folded names of reserved types
}

var loadCatalogue = sync.OnceValue(func() *catalogue {
	c := &catalogue{byName: map[string]int{}, reserved: map[string]string{}}
	if err := json.Unmarshal(catalogueJSON, c); err != nil {
		panic("internal error: catalogue.json: " + err.Error())
	}
	for i, t := range c.Types {
		c.byName[t.Type] = i
		for _, a := range t.Aliases {
			c.byName[a] = i
		}
		if t.Reserved {
			c.reserved[folded(t.Type)] = t.Type
		}
	}
	return c
})

// folded returns a name without what a reader may overlook in it.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// Families returns the catalogue's families in their order.
func Families() []Family { return slices.Clone(loadCatalogue().Families) }

// Types returns the catalogue's types in their order.
func Types() []Type { return slices.Clone(loadCatalogue().Types) }

// Lookup finds a type by its name or an alias; case counts.
func Lookup(name string) (Type, bool) {
	if t := lookup(name); t != nil {
		return *t, true
	}
	return Type{}, false
}

// lookup is Lookup without a copy. The type must not be changed.
func lookup(name string) *Type {
	c := loadCatalogue()
	if i, ok := c.byName[name]; ok {
		return &c.Types[i]
	}
	return nil
}

// CanonicalType returns the catalogue's spelling of an event type, or the name
// itself where it is in no catalogue.
func CanonicalType(name string) string {
	if t, ok := Lookup(name); ok {
		return t.Type
	}
	return strings.TrimSpace(name)
}
