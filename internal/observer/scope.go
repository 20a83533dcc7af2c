package observer

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/graven-audit/graven/internal/capture"
)

// A concern is which resources a policy is about.
type concern struct{ Names, Namespaces, ExceptNamespaces []string }

// concerned reports whether any of several policies is about a resource.
func concerned(scope []concern, namespace, name string) bool {
	return slices.ContainsFunc(scope, func(c concern) bool {
		m := capture.Match{Names: c.Names, Namespaces: c.Namespaces, ExceptNamespaces: c.ExceptNamespaces}
		return m.Concerns(namespace, name)
	})
}

// wants reports whether a policy is about a resource. Of others nothing is kept.
func (f *follower) wants(namespace, name string) bool {
	return slices.ContainsFunc(f.judge.programs, func(p *capture.Program) bool { return p.Policy.Match.Concerns(namespace, name) })
}

// scope returns which resources policies are about; not nil.
func (f *follower) scope() []concern {
	all := []concern{}
	for _, p := range f.judge.programs {
		m := &p.Policy.Match
		c := concern{sorted(m.Names), sorted(m.Namespaces), sorted(m.ExceptNamespaces)}
		if !slices.ContainsFunc(all, func(o concern) bool { return reflect.DeepEqual(o, c) }) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(x, y concern) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	return all
}

// sorted returns a list in order; nil for an empty one.
func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

// options returns those of a question to the API server: it is not asked for others where
// all policies are about resources of one name.
func (f *follower) options(o metav1.ListOptions) metav1.ListOptions {
	name := ""
	for _, p := range f.judge.programs {
		of := p.Policy.Match.Names
		if len(of) != 1 || name != "" && name != of[0] {
			return o
		}
		name = of[0]
	}
	if name != "" {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	}
	return o
}

// introduce shows the last states to policies that are new, and takes up resources that no
// policy was about. Following goes on where it was.
func (f *follower) introduce(ctx context.Context, was *position) error {
	at := *was
	at.Policies, at.Scope = namesOf(f.judge.programs), f.scope()
	var fresh []*capture.Program
	for _, p := range f.judge.programs {
		if !slices.Contains(was.Policies, p.Policy.Name) {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) > 0 {
		err := f.each(func(st *state) error {
			u := unstructured.Unstructured{Object: st.Object}
			c := &change{uid: st.UID, version: st.Version, namespace: u.GetNamespace(), at: st.At, since: st.Since, now: st.Object, fresh: fresh}
			return f.record(ctx, []*change{c}, true, nil)
		})
		if err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(at.Scope, was.Scope) && was.Scope != nil {
		if err := f.adopt(ctx, was); err != nil {
			return err
		}
	}
	f.at = &at
	if slices.Equal(at.Policies, was.Policies) && reflect.DeepEqual(at.Scope, was.Scope) {
		return nil
	}
	return f.flush(&at)
}

// adopt takes up the resources that no policy was about, and forgets those that none is
// about any more. What was made since, the watch has.
func (f *follower) adopt(ctx context.Context, was *position) error {
	for next := ""; ; {
		list, err := f.api.List(ctx, f.options(metav1.ListOptions{Limit: maxPage, Continue: next}))
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		var changes []*change
		for i := range list.Items {
			c := f.change(&list.Items[i], false)
			if c.derived = true; !concerned(was.Scope, c.namespace, c.name()) {
				changes = append(changes, c)
			}
		}
		if err := f.record(ctx, changes, false, nil); err != nil {
			return err
		}
		if next = list.GetContinue(); next == "" {
			break
		}
	}
	return f.each(func(st *state) error {
		if u := (&unstructured.Unstructured{Object: st.Object}); !f.wants(u.GetNamespace(), u.GetName()) {
			f.store.put(st.UID, nil)
		}
		return nil
	})
}
