package intake

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
//   - the token of a TokenRequest or TokenReview
//   - the values of environment variables, wherever a member is named env
//   - the annotation in which kubectl keeps a copy of the whole object, and
//     metadata.managedFields, which go with their names
//   - token and password parameters of a request's URI
//
// Objects are recognised by their kind at any depth, so that lists, tables and
// templates are covered, and by the resource of the request, since patches
// name no kind. Names are compared in any case, because a patch stands in the
// log as the client wrote it, whether or not the API server understood it.
//
// What is not searched, because nothing tells it from other text: arguments of
// commands, annotations other than the one above, ConfigMaps, and the messages
// of failed requests, which may quote a value that was refused.

const (
	removed         = "(removed)"
	lastApplied     = "kubectl.kubernetes.io/last-applied-configuration"
	webhookPatch    = "patch.webhook.admission.k8s.io/" // begins audit annotations that hold a webhook's JSON Patch
	maxRedactDepth  = 100
	tooDeepToRedact = "(omitted: nested too deeply)"
)

// A role is what a value is to its object, as far as redaction cares.
type role int

const (
	plain     role = iota
	secret         // a Secret, or a list of them
	secrets        // the items of a list of Secrets
	values         // data or stringData of a Secret, and what it should not have
	value          // one of them, or any other credential
	meta           // metadata of any object
	noise          // to be removed with its name
	token          // a TokenRequest or TokenReview
	tokenPart      // its spec or status
	env            // environment variables: a list, or an object name → value
	envVar         // one of a list
	envValue       // one of an object
)

// member is the role of the member of that name in an object of role r.
func (r role) member(name string) role {
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(name, s) })
	}
	switch {
	case name == lastApplied, r == meta && is("managedFields"):
		return noise
	case r == values, r == value, r == secrets:
		return value
	case r == env:
		return envValue
	case is("metadata"):
		return meta
	case r == secret && is("items"):
		return secrets
	case r == secret && !is("apiVersion", "kind", "type", "immutable"):
		return values
	case r == token && is("spec", "status"):
		return tokenPart
	case r == tokenPart && is("token"), (r == envVar || r == envValue) && is("value"):
		return value
	case is("env"):
		return env
	}
	return plain
}

// element is the role of an element of a list of role r.
func (r role) element() role {
	switch r {
	case env:
		return envVar
	case secrets:
		return secret
	case secret, values, value, token, tokenPart:
		return value
	}
	return plain
}

// scalar reports whether a string, number or boolean of role r is removed.
func (r role) scalar() bool {
	switch r {
	case secret, secrets, values, value, token, tokenPart:
		return true
	}
	return false
}

// at is the role of the value that a JSON Pointer names below role r.
func (r role) at(pointer string) role {
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
func (r role) of(object map[string]any) role {
	kind, _ := object["kind"].(string)
	switch {
	case r == plain && (kind == "Secret" || kind == "SecretList"):
		return secret
	case r == plain && (kind == "TokenRequest" || kind == "TokenReview"):
		return token
	case (r == secret || r == token) && (kind == "Status" || kind == "DeleteOptions" || kind == "Table"):
		return plain // an answer or options, whose members a Secret has not
	}
	return r
}

// A redactor removes credentials from decoded JSON, in place, and notes where.
type redactor struct {
	redacted, omitted paths
}

// clean returns what may be kept of v, which stands at p.
func (r *redactor) clean(v any, as role, p *place) any {
	if p.depth > maxRedactDepth {
		r.omitted.add(p)
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
			below := p.member(name)
			if as.member(name) == noise {
				r.redacted.add(below)
				delete(x, name)
				continue
			}
			x[name] = r.clean(member, as.member(name), below)
		}
		return x
	case []any:
		if as == value {
			break
		}
		for i, element := range x {
			x[i] = r.clean(element, as.element(), p.element(i))
		}
		return x
	case string:
		if name, _, ok := strings.Cut(x, "="); ok && as == envVar {
			r.redacted.add(p)
			return name + "=" + removed
		}
		if as == envValue {
			as = value
		}
	}
	if !as.scalar() {
		return v
	}
	r.redacted.add(p)
	return removed
}

// patch cleans the operations of a JSON Patch to an object of role as.
func (r *redactor) patch(ops []any, as role, p *place) {
	for i, op := range ops {
		at := p.element(i)
		o, ok := op.(map[string]any)
		if !ok {
			ops[i] = r.clean(op, value, at)
			continue
		}
		pointer, _ := o["path"].(string)
		target := as.at(pointer)
		for name, member := range o {
			below := at.member(name)
			switch {
			case name == "op" || name == "path" || name == "from":
				o[name] = r.clean(member, plain, below)
			case target == noise:
				r.redacted.add(below)
				delete(o, name)
			default:
				o[name] = r.clean(member, target, below)
			}
		}
	}
}

// body cleans the object of a request or response about an object of role as.
// A list is a JSON Patch; a text is a patch of which nothing is known.
func (r *redactor) body(v any, as role, p *place) any {
	switch v := v.(type) {
	case []any:
		r.patch(v, as, p)
		return v
	case string:
		return r.clean(v, value, p)
	default:
		return r.clean(v, as, p)
	}
}

// annotations cleans the audit annotations, of which some hold the JSON Patch
// that an admission webhook made to an object of role as.
func (r *redactor) annotations(v any, as role, p *place) any {
	m, ok := v.(map[string]any)
	if !ok {
		return r.clean(v, plain, p)
	}
	for name, note := range m {
		at := p.member(name)
		text, ok := note.(string)
		if !ok || !strings.HasPrefix(name, webhookPatch) {
			m[name] = r.clean(note, plain, at)
			continue
		}
		var doc map[string]any
		err := decode([]byte(text), &doc)
		ops, ok := doc["patch"].([]any)
		if err != nil || !ok {
			m[name] = r.clean(note, value, at)
			continue
		}
		r.patch(ops, as, at.member("patch"))
		m[name] = compact(doc)
	}
	return m
}

var parameter = regexp.MustCompile(`[^=&;]*=[^&;]*`)

// uri removes the values of credentials in a URI's query.
func (r *redactor) uri(s string, p *place) string {
	path, query, found := strings.Cut(s, "?")
	if !found {
		return s
	}
	return path + "?" + parameter.ReplaceAllStringFunc(query, func(param string) string {
		name, _, _ := strings.Cut(param, "=")
		if !isCredential(name) {
			return param
		}
		r.redacted.add(p.member(name))
		return name + "=" + removed
	})
}

func isCredential(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
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
