package auditlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// A Level is how much of a request an audit log has.
type Level string

// Levels, the least first.
const (
	None            Level = "None"
	Metadata        Level = "Metadata"
	WithRequest     Level = "Request"
	RequestResponse Level = "RequestResponse"
)

// A Policy is an audit policy (audit.k8s.io/v1): the first rule that matches a request
// says its level, as in an API server.
type Policy struct {
	OmitStages []string `json:"omitStages"`
	Rules      []rule   `json:"rules"`
}

type rule struct {
	Level           Level       `json:"level"`
	Users           []string    `json:"users"`
	UserGroups      []string    `json:"userGroups"`
	Verbs           []string    `json:"verbs"`
	Resources       []resources `json:"resources"`
	Namespaces      []string    `json:"namespaces"`
	NonResourceURLs []string    `json:"nonResourceURLs"`
	OmitStages      []string    `json:"omitStages"`
}

type resources struct {
	Group         string   `json:"group"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames"`
}

// ParsePolicy reads a policy, in YAML or JSON.
func ParsePolicy(text []byte) (*Policy, error) {
	var file struct {
		Policy
		APIVersion        string         `json:"apiVersion"`
		Kind              string         `json:"kind"`
		Metadata          map[string]any `json:"metadata"`
		OmitManagedFields bool           `json:"omitManagedFields"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	switch {
	case file.Kind != "Policy":
		return nil, fmt.Errorf("kind: expected Policy, found %.64q", file.Kind)
	case file.APIVersion != "audit.k8s.io/v1":
		return nil, fmt.Errorf("apiVersion: expected audit.k8s.io/v1, found %.64q", file.APIVersion)
	case len(file.Rules) == 0:
		return nil, errors.New("rules: required")
	}
	for i, r := range file.Rules {
		if !slices.Contains([]Level{None, Metadata, WithRequest, RequestResponse}, r.Level) {
			return nil, fmt.Errorf("rules[%d].level: one of None, Metadata, Request, RequestResponse, found %.64q", i, r.Level)
		}
	}
	return &file.Policy, nil
}

// Level returns the level at which a request is written; None also where its stage is
// not.
func (p *Policy) Level(r *Request) Level {
	for _, rule := range p.Rules {
		if !rule.matches(r) {
			continue
		}
		if r.Stage != "" && (slices.Contains(p.OmitStages, r.Stage) || slices.Contains(rule.OmitStages, r.Stage)) {
			return None
		}
		return rule.Level
	}
	return None
}

func (r *rule) matches(q *Request) bool {
	given := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	inGroup := func(group string) bool { return slices.Contains(q.Groups, group) }
	switch {
	case !given(r.Users, q.User), !given(r.Verbs, q.Verb), len(r.UserGroups) > 0 && !slices.ContainsFunc(r.UserGroups, inGroup):
		return false
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return q.Resource != "" && given(r.Namespaces, q.Namespace) && (len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(of resources) bool { return of.have(q) }))
	case len(r.NonResourceURLs) > 0:
		return q.Resource == "" && slices.ContainsFunc(r.NonResourceURLs, func(pattern string) bool { return isBelow(pattern, q.URI) })
	}
	return true
}

// have reports whether a request is about some of the resources.
func (of resources) have(q *Request) bool {
	if of.Group != q.Group {
		return false
	}
	if len(of.Resources) == 0 {
		return true
	}
	if len(of.ResourceNames) > 0 && !slices.Contains(of.ResourceNames, q.Name) {
		return false
	}
	return slices.ContainsFunc(of.Resources, func(name string) bool {
		resource, sub, both := strings.Cut(name, "/")
		switch {
		case name == "*":
			return true
		case !both:
			return name == q.Resource && q.Subresource == ""
		case resource == "*":
			return sub == q.Subresource && sub != ""
		}
		return resource == q.Resource && (sub == "*" || sub == q.Subresource)
	})
}

// isBelow reports whether the path of a URI is what a pattern says: a path, or the
// beginning of one with * behind it.
func isBelow(pattern, uri string) bool {
	path, _, _ := strings.Cut(uri, "?")
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, begin)
	}
	return path == pattern
}
