// Package redact takes credentials out of Kubernetes' objects, and out of what the
// API server's audit log has of them.
package redact

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What is a credential, and what is noise that may hold one:
//
//   - the values under data and stringData of a Secret, and under any name
//     that a Secret has not; the keys stay
//   - the Token of a TokenRequest or TokenReview
//   - the values of environment variables, wherever a member is named env
//   - the annotations in which kubectl and others keep a copy of the whole object,
//     and metadata.managedFields, which go with their names
//   - the URL and path at which a webhook is asked, by which it may know who asks
//   - Token and password parameters of a request's URI
//
// Objects are recognised by their kind at any depth, so that lists, tables and
// templates are covered, and by the resource of the request, since patches
// name no kind. Names are compared in any case, because a patch stands in the
// log as the client wrote it, whether or not the API server understood it.
//
// What is not searched, because nothing tells it from other text: arguments of
// commands, annotations other than those above, ConfigMaps, and the messages
// of failed requests, which may quote a value that was refused.

const (
	removed     = "(removed)"
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	// Other tools' copies of whole objects.
	rancherApplied  = "objectset.rio.cattle.io/applied"
	kappOriginal    = "kapp.k14s.io/original"
	webhookPatch    = "patch.webhook.admission.k8s.io/" // begins audit annotations that hold a webhook's JSON Patch
	maxRedactDepth  = 100
	tooDeepToRedact = "(omitted: nested too deeply)"
)

// A Role is what a value is to its object, as far as redaction cares.
type Role int

const (
	Plain     Role = iota // nothing that is known
	Secret                // a Secret, or a list of them
	secrets               // the items of a list of Secrets
	values                // data or stringData of a Secret, and what it should not have
	value                 // one of them, or any other credential
	meta                  // metadata of any object
	noise                 // to be removed with its name
	Token                 // a TokenRequest or TokenReview
	tokenPart             // its spec or status
	env                   // environment variables: a list, or an object name → value
	envVar                // one of a list
	envValue              // one of an object
	hook                  // how a webhook is reached, which may hold a word that it is known by
)

// member is the role of the member of that name in an object of role r.
func (r Role) member(name string) Role {
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(name, s) })
	}
	switch {
	case name == lastApplied, name == rancherApplied, name == kappOriginal, r == meta && is("managedFields"):
		return noise
	case r == values, r == value, r == secrets:
		return value
	case r == env:
		return envValue
	case is("metadata"):
		return meta
	case is("clientConfig"):
		return hook
	case r == hook && is("url"), r == hook && is("path"):
		return value
	case r == hook && is("service"):
		return hook
	case r == Secret && is("items"):
		return secrets
	case r == Secret && !is("apiVersion", "kind", "type", "immutable"):
		return values
	case r == Token && is("spec", "status"):
		return tokenPart
	case r == tokenPart && is("token"):
		return value
	case r == envVar || r == envValue: // by reference, or the value in whatever form
		if is("name", "valueFrom") {
			return Plain
		}
		return value
	case is("env"):
		return env
	}
	return Plain
}

// element is the role of an element of a list of role r.
func (r Role) element() Role {
	switch r {
	case env:
		return envVar
	case secrets:
		return Secret
	case Secret, values, value, Token, tokenPart, envValue:
		return value
	}
	return Plain
}

// scalar reports whether a string, number or boolean of role r is removed.
func (r Role) scalar() bool {
	switch r {
	case Secret, secrets, values, value, Token, tokenPart, envValue:
		return true
	}
	return false
}

// at is the role of the value that a JSON Pointer names below role r.
func (r Role) at(pointer string) Role {
	for segment := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		segment = strings.NewReplacer("~1", "/", "~0", "~").Replace(segment)
		switch {
		case segment == "":
		case (r == env || r == secrets) && isIndex(segment):
			r = r.element()
		default:
			r = r.member(segment)
		}
		if r == noise || r == value {
			return r
		}
	}
	return r
}

func isIndex(s string) bool {
	if s == "-" {
		return true
	}
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// of refines what an object may be by the kind that it claims.
func (r Role) of(object map[string]any) Role {
	kind, _ := object["kind"].(string)
	switch {
	case r == Plain && (kind == "Secret" || kind == "SecretList"):
		return Secret
	case r == Plain && (kind == "TokenRequest" || kind == "TokenReview"):
		return Token
	case (r == Secret || r == Token) && (kind == "Status" || kind == "DeleteOptions" || kind == "Table"):
		return Plain // an answer or options, whose members a Secret has not
	}
	return r
}

// A Redactor removes credentials from decoded JSON, in place.
type Redactor struct {
	// Replace returns what stands in a credential's place; nil is "(removed)".
	Replace func(credential any) string
	// Redacted and Omitted are told of what was removed, and of what was nested
	// too deeply to be searched; nil for nobody.
	Redacted, Omitted func(*Place)
}

func (r *Redactor) redacted(p *Place) {
	if r.Redacted != nil {
		r.Redacted(p)
	}
}

// replace returns what stands in a credential's place.
func (r *Redactor) replace(v any, p *Place) string {
	r.redacted(p)
	if r.Replace == nil {
		return removed
	}
	return r.Replace(v)
}

// Clean returns what may be kept of v, which stands at p.
func (r *Redactor) Clean(v any, as Role, p *Place) any {
	if p.Depth > maxRedactDepth {
		if r.Omitted != nil {
			r.Omitted(p)
		}
		return tooDeepToRedact
	}
	switch x := v.(type) {
	case nil:
		return nil
	case map[string]any:
		if as == value {
			break
		}
		as = as.of(x)
		for name, member := range x {
			below := p.Member(name)
			if as.member(name) == noise {
				r.redacted(below)
				delete(x, name)
				continue
			}
			x[name] = r.Clean(member, as.member(name), below)
		}
		return x
	case []any:
		if as == value {
			break
		}
		for i, element := range x {
			x[i] = r.Clean(element, as.element(), p.Element(i))
		}
		return x
	case string:
		if name, _, ok := strings.Cut(x, "="); ok && (as == envVar || as == env) {
			return name + "=" + r.replace(x[len(name)+1:], p)
		}
	}
	if !as.scalar() {
		return v
	}
	return r.replace(v, p)
}

// patch cleans the operations of a JSON Patch to an object of role as.
func (r *Redactor) patch(ops []any, as Role, p *Place) {
	for i, op := range ops {
		at := p.Element(i)
		o, ok := op.(map[string]any)
		if !ok {
			ops[i] = r.Clean(op, value, at)
			continue
		}
		pointer, _ := o["path"].(string)
		target := as.at(pointer)
		for name, member := range o {
			below := at.Member(name)
			switch {
			case name == "op" || name == "path" || name == "from":
				o[name] = r.Clean(member, Plain, below)
			case target == noise:
				r.redacted(below)
				delete(o, name)
			default:
				o[name] = r.Clean(member, target, below)
			}
		}
	}
}

// Body cleans the object of a request or response about an object of role as.
// A list is a JSON Patch; a text is a patch of which nothing is known.
func (r *Redactor) Body(v any, as Role, p *Place) any {
	switch v := v.(type) {
	case []any:
		r.patch(v, as, p)
		return v
	case string:
		return r.Clean(v, value, p)
	default:
		return r.Clean(v, as, p)
	}
}

// Annotations cleans the audit annotations, of which some hold the JSON Patch
// that an admission webhook made to an object of role as.
func (r *Redactor) Annotations(v any, as Role, p *Place) any {
	m, ok := v.(map[string]any)
	if !ok {
		return r.Clean(v, Plain, p)
	}
	for name, note := range m {
		at := p.Member(name)
		text, ok := note.(string)
		if !ok || !strings.HasPrefix(name, webhookPatch) {
			m[name] = r.Clean(note, Plain, at)
			continue
		}
		var doc map[string]any
		err := decode([]byte(text), &doc)
		ops, ok := doc["patch"].([]any)
		if err != nil || !ok {
			m[name] = r.Clean(note, value, at)
			continue
		}
		r.patch(ops, as, at.Member("patch"))
		m[name] = compact(doc)
	}
	return m
}

var parameter = regexp.MustCompile(`[^=&;]*=[^&;]*`)

// URI removes the values of credentials in a URI's query.
func (r *Redactor) URI(s string, p *Place) string {
	path, query, found := strings.Cut(s, "?")
	if !found {
		return s
	}
	return path + "?" + parameter.ReplaceAllStringFunc(query, func(param string) string {
		name, _, _ := strings.Cut(param, "=")
		if !isCredential(name) {
			return param
		}
		return name + "=" + r.replace(param[len(name)+1:], p.Member(name))
	})
}

func isCredential(name string) bool {
	if text, err := url.QueryUnescape(name); err == nil {
		name = text
	}
	switch strings.ToLower(name) {
	case "token", "access_token", "id_token", "refresh_token", "password", "passwd", "secret", "client_secret", "api_key", "apikey":
		return true
	}
	return false
}

// decode reads one JSON document and keeps numbers as they are written.
func decode(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into)
}

// compact returns the JSON text of a decoded value.
func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("internal error: decoded JSON does not encode: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// A Place is where a value stands in a document. Depth counts objects and arrays,
// the document itself being the first.
type Place struct {
	up    *Place
	name  string
	index int // of an element; -1 for a member
	Depth int
}

// At returns the place of a member of the document.
func At(name string) *Place { return &Place{name: name, index: -1, Depth: 2} }

// Member returns the place of a member of the object at p.
func (p *Place) Member(name string) *Place {
	return &Place{up: p, name: name, index: -1, Depth: p.Depth + 1}
}

// Element returns the place of an element of the list at p.
func (p *Place) Element(i int) *Place {
	return &Place{up: p, index: i, Depth: p.Depth + 1}
}

// String returns the path, as in a.b[0].
func (p *Place) String() string {
	switch {
	case p.up == nil:
		return p.name
	case p.index >= 0:
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	return p.up.String() + "." + p.name
}
