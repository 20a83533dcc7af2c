package rbac

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/graven-audit/graven/event"
)

// ErrNotFound means that there is no such grant.
var ErrNotFound = errors.New("binding not found")

// ErrForbidden means that the caller may not grant or revoke the role.
var ErrForbidden = errors.New("forbidden")

// A Sender takes events. It has the event, durably, once Record returns nil.
type Sender interface {
	Record(ctx context.Context, e *event.Event) error
}

// Config configures an RBACManager. Client and Sender are required.
type Config struct {
	// Client is a client of the API server, whose user may create, update and
	// delete bindings, and has the verb "bind" on the roles.
	Client client.Client
	// Sender takes the events of what is done.
	Sender Sender
	// Now is the clock; nil means the machine's.
	Now func() time.Time
}

// An RBACManager grants and revokes roles.
type RBACManager struct {
	config Config
}

// NewRBACManager returns an RBACManager.
func NewRBACManager(c Config) (*RBACManager, error) {
	if c.Client == nil || c.Sender == nil {
		return nil, errors.New("rbac: no Client or no Sender")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &RBACManager{c}, nil
}

// A Grant says who has a role.
type Grant struct {
	// Kind is User, Group or ServiceAccount; empty means User.
	Kind string
	// Name is the subject's; of a ServiceAccount it is {namespace}:{name}.
	Name string
	// Role is one of [Roles].
	Role string
	// Namespace bounds the grant; empty means the whole cluster.
	Namespace string
	// Expires ends the grant; zero means never. See [RBACManager.Expire].
	Expires time.Time
	// By is who asks for it, and must have the verb "bind" on the role. Nil means
	// the client's own user.
	By *authenticationv1.UserInfo
	// Reason is why.
	Reason string
}

// EnsureRoles makes the ClusterRoles, and has them be as [ClusterRoles] says. What
// is so already is not written. The API server lets only those write a role who
// have all of it, or may escalate.
func (rm *RBACManager) EnsureRoles(ctx context.Context) error {
	for _, want := range ClusterRoles() {
		var have rbacv1.ClusterRole
		err := rm.config.Client.Get(ctx, client.ObjectKey{Name: want.Name}, &have)
		switch {
		case apierrors.IsNotFound(err):
			err = rm.config.Client.Create(ctx, &want)
		case err == nil && !(equality.Semantic.DeepEqual(have.Rules, want.Rules) && have.AggregationRule == nil && have.Labels[LabelRole] == want.Labels[LabelRole]):
			have.Rules, have.AggregationRule = want.Rules, nil
			for name, value := range want.Labels {
				metav1.SetMetaDataLabel(&have.ObjectMeta, name, value)
			}
			err = rm.config.Client.Update(ctx, &have)
		}
		if err != nil {
			return fmt.Errorf("failed to create/update role %s: %w", want.Name, err)
		}
	}
	return nil
}

// GrantRole grants a user a role in the whole cluster.
func (rm *RBACManager) GrantRole(ctx context.Context, user string, role string) error {
	return rm.Grant(ctx, Grant{Name: user, Role: role})
}

// RevokeRole revokes what GrantRole granted. It returns [ErrNotFound] if the user
// has not been granted the role.
func (rm *RBACManager) RevokeRole(ctx context.Context, user string, role string) error {
	return rm.Revoke(ctx, Grant{Name: user, Role: role})
}

// Grant grants a role. One that is there already gets the new end.
func (rm *RBACManager) Grant(ctx context.Context, g Grant) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	if !g.Expires.IsZero() && !g.Expires.After(rm.config.Now()) {
		return fmt.Errorf("grant: expires: %s has passed", event.FormatTime(g.Expires))
	}
	return rm.change(ctx, "RoleGranted", g, func() (client.Object, error) {
		binding := g.binding()
		err := rm.config.Client.Create(ctx, binding)
		if !apierrors.IsAlreadyExists(err) {
			return binding, err
		}
		have, err := rm.find(ctx, g)
		if err != nil {
			return nil, err
		}
		have.SetLabels(merged(have.GetLabels(), binding.GetLabels()))
		annotations := merged(have.GetAnnotations(), binding.GetAnnotations())
		if g.Expires.IsZero() {
			delete(annotations, AnnotationExpires)
		}
		have.SetAnnotations(annotations)
		return have, rm.config.Client.Update(ctx, have)
	})
}

// Revoke revokes a role. It returns [ErrNotFound] if it is not granted.
func (rm *RBACManager) Revoke(ctx context.Context, g Grant) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if _, err := rm.find(ctx, g); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return rm.change(ctx, "RoleRevoked", g, func() (client.Object, error) {
		have, err := rm.find(ctx, g)
		if err == nil {
			uid := have.GetUID() // and not one that was made since
			err = rm.config.Client.Delete(ctx, have, client.Preconditions{UID: &uid})
		}
		return have, err
	})
}

// List returns the grants of all roles, those that have expired and are still
// there among them.
func (rm *RBACManager) List(ctx context.Context) ([]Grant, error) {
	var cluster rbacv1.ClusterRoleBindingList
	var namespaced rbacv1.RoleBindingList
	ours := client.HasLabels{LabelRole}
	if err := errors.Join(rm.config.Client.List(ctx, &cluster, ours), rm.config.Client.List(ctx, &namespaced, ours)); err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	var grants []Grant
	for _, b := range cluster.Items {
		grants = append(grants, grantsOf(&b, b.RoleRef, b.Subjects)...)
	}
	for _, b := range namespaced.Items {
		grants = append(grants, grantsOf(&b, b.RoleRef, b.Subjects)...)
	}
	slices.SortFunc(grants, func(a, b Grant) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Role, b.Role), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind))
	})
	return grants, nil
}

// Expire revokes what has expired. It returns how many it revoked.
func (rm *RBACManager) Expire(ctx context.Context) (int, error) {
	grants, err := rm.List(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, g := range grants {
		if g.Expires.IsZero() || g.Expires.After(rm.config.Now()) {
			continue
		}
		g.Reason = "expired at " + event.FormatTime(g.Expires)
		err := rm.Revoke(ctx, g)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, ErrNotFound): // somebody else was faster
			return n, err
		}
	}
	return n, nil
}

// change checks who asks, records that it is to be done, does it, and records what
// came of it.
func (rm *RBACManager) change(ctx context.Context, eventType string, g Grant, do func() (client.Object, error)) error {
	who, err := rm.authorize(ctx, g)
	said := func(outcome string, binding client.Object, failure error) error {
		e := &event.Event{ID: event.NewID(rm.config.Now()), EventType: eventType, Timestamp: rm.config.Now().UTC(), Outcome: outcome,
			Actor:    event.Actor{Type: event.ActorUser, Name: who},
			Resource: event.Resource{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: g.bindingKind(), Namespace: g.Namespace, Name: g.bindingName()}}
		if strings.HasPrefix(who, serviceAccounts) {
			e.Actor.Type, e.Actor.ServiceAccount = event.ActorService, who
		}
		if binding != nil && binding.GetUID() != "" {
			e.Resource.UID = string(binding.GetUID())
			e.Fact = e.Resource.UID + "/" + eventType + "/" + binding.GetResourceVersion()
		}
		if failure != nil {
			e.Error.Message = failure.Error()
			if errors.Is(failure, ErrForbidden) || apierrors.IsForbidden(failure) {
				e.Error.Code = "forbidden"
			}
		}
		if err := e.SetDetails(g.details(eventType)); err != nil {
			return err
		}
		if err := rm.config.Sender.Record(ctx, e); err != nil {
			return fmt.Errorf("record %s: %w", eventType, err)
		}
		return nil
	}
	if err != nil {
		if errors.Is(err, ErrForbidden) {
			err = errors.Join(err, said(event.OutcomeFailure, nil, err))
		}
		return err
	}
	if err := said(event.OutcomePending, nil, nil); err != nil {
		return err
	}
	binding, err := do()
	outcome := event.OutcomeSuccess
	if err != nil {
		outcome, err = event.OutcomeFailure, fmt.Errorf("%s %s: %w", g.bindingKind(), g.bindingName(), err)
	}
	return errors.Join(err, said(outcome, binding, err))
}

// authorize returns who asks. The error wraps ErrForbidden if they have not the
// verb "bind" on the role.
func (rm *RBACManager) authorize(ctx context.Context, g Grant) (who string, err error) {
	asked := &authorizationv1.ResourceAttributes{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: prefix + g.Role, Namespace: g.Namespace}
	var status authorizationv1.SubjectAccessReviewStatus
	if g.By == nil {
		var self authenticationv1.SelfSubjectReview
		if err := rm.config.Client.Create(ctx, &self); err != nil {
			return "", fmt.Errorf("ask who we are: %w", err)
		}
		who = self.Status.UserInfo.Username
		review := authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: asked}}
		if err := rm.config.Client.Create(ctx, &review); err != nil {
			return who, fmt.Errorf("ask what %s may do: %w", who, err)
		}
		status = review.Status
	} else {
		who = g.By.Username
		review := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: asked,
			User: who, UID: g.By.UID, Groups: g.By.Groups, Extra: extra(g.By.Extra)}}
		if err := rm.config.Client.Create(ctx, &review); err != nil {
			return who, fmt.Errorf("ask what %s may do: %w", who, err)
		}
		status = review.Status
	}
	if !status.Allowed || status.Denied {
		return who, fmt.Errorf("%w: %s may not bind %s", ErrForbidden, who, prefix+g.Role)
	}
	return who, nil
}

func extra(from map[string]authenticationv1.ExtraValue) map[string]authorizationv1.ExtraValue {
	to := map[string]authorizationv1.ExtraValue{}
	for name, values := range from {
		to[name] = authorizationv1.ExtraValue(values)
	}
	return to
}

// serviceAccounts is what names of service accounts begin with, as users.
const serviceAccounts = "system:serviceaccount:"

// check completes a grant, and returns what is wrong with it.
func (g *Grant) check() error {
	g.Kind = cmp.Or(g.Kind, rbacv1.UserKind)
	if !slices.Contains([]string{rbacv1.UserKind, rbacv1.GroupKind, rbacv1.ServiceAccountKind}, g.Kind) {
		return fmt.Errorf("kind is %q, none of User, Group, ServiceAccount", g.Kind)
	}
	if g.Name == "" {
		return errors.New("name: required")
	}
	if len(g.Name) > event.MaxString {
		return fmt.Errorf("name: %d bytes, more than %d", len(g.Name), event.MaxString)
	}
	if namespace, name, _ := strings.Cut(g.Name, ":"); g.Kind == rbacv1.ServiceAccountKind && (namespace == "" || name == "") {
		return fmt.Errorf("name: of a service account it is {namespace}:{name}, not %q", g.Name)
	}
	return checkRole(g.Role)
}

// subject returns who is granted the role.
func (g Grant) subject() rbacv1.Subject {
	if g.Kind == rbacv1.ServiceAccountKind {
		namespace, name, _ := strings.Cut(g.Name, ":")
		return rbacv1.Subject{Kind: g.Kind, Name: name, Namespace: namespace}
	}
	return rbacv1.Subject{Kind: g.Kind, APIGroup: rbacv1.GroupName, Name: g.Name}
}

func (g Grant) bindingKind() string {
	if g.Namespace == "" {
		return "ClusterRoleBinding"
	}
	return "RoleBinding"
}

// bindingName returns a name that people can read, and that no other subject has.
func (g Grant) bindingName() string {
	sum := sha256.Sum256([]byte(g.Kind + "\x00" + g.Name))
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, g.Name)
	readable = strings.Trim(readable[:min(len(readable), 60)], "-")
	return prefix + g.Role + "-" + strings.TrimPrefix(readable+"-", "-") + hex.EncodeToString(sum[:8])
}

// binding returns the object that stands for the grant.
func (g Grant) binding() client.Object {
	m := metav1.ObjectMeta{Name: g.bindingName(), Namespace: g.Namespace,
		Labels:      map[string]string{LabelRole: g.Role, "app.kubernetes.io/managed-by": "graven"},
		Annotations: map[string]string{}}
	if !g.Expires.IsZero() {
		m.Annotations[AnnotationExpires] = event.FormatTime(g.Expires)
	}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: prefix + g.Role}
	if g.Namespace == "" {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: []rbacv1.Subject{g.subject()}}
	}
	return &rbacv1.RoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: []rbacv1.Subject{g.subject()}}
}

// find returns the binding of a grant, or ErrNotFound. One that says something
// else is an error.
func (rm *RBACManager) find(ctx context.Context, g Grant) (client.Object, error) {
	var ref rbacv1.RoleRef
	var subjects []rbacv1.Subject
	var found client.Object
	key := client.ObjectKey{Namespace: g.Namespace, Name: g.bindingName()}
	var err error
	if g.Namespace == "" {
		b := &rbacv1.ClusterRoleBinding{}
		err = rm.config.Client.Get(ctx, key, b)
		ref, subjects, found = b.RoleRef, b.Subjects, b
	} else {
		b := &rbacv1.RoleBinding{}
		err = rm.config.Client.Get(ctx, key, b)
		ref, subjects, found = b.RoleRef, b.Subjects, b
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%w: %s %s", ErrNotFound, g.bindingKind(), g.bindingName())
	case err != nil:
		return nil, err
	case ref.Name != prefix+g.Role || !slices.Equal(subjects, []rbacv1.Subject{g.subject()}):
		return nil, fmt.Errorf("%s %s was changed by somebody: it binds %s to %v", g.bindingKind(), g.bindingName(), ref.Name, subjects)
	}
	return found, nil
}

// grantsOf returns what a binding grants.
func grantsOf(b metav1.Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject) (grants []Grant) {
	role, ok := strings.CutPrefix(ref.Name, prefix)
	if !ok || checkRole(role) != nil {
		return nil
	}
	expires, _ := time.Parse(time.RFC3339Nano, b.GetAnnotations()[AnnotationExpires]) // one that cannot be read does not end
	for _, s := range subjects {
		name := s.Name
		if s.Kind == rbacv1.ServiceAccountKind {
			name = s.Namespace + ":" + s.Name
		}
		grants = append(grants, Grant{Kind: s.Kind, Name: name, Role: role, Namespace: b.GetNamespace(), Expires: expires})
	}
	return grants
}

// details returns what an event says of a grant.
func (g Grant) details(eventType string) map[string]string {
	d := map[string]string{"user": g.Name, "role": g.Role, "subjectKind": g.Kind, "action": map[string]string{"RoleGranted": "granted", "RoleRevoked": "revoked"}[eventType]}
	if g.Namespace != "" {
		d["namespace"] = g.Namespace
	}
	if !g.Expires.IsZero() {
		d["expires"] = event.FormatTime(g.Expires)
	}
	if g.Reason != "" {
		d["reason"] = g.Reason
	}
	return d
}

// merged returns a with what b has.
func merged(a, b map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}
