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
			err = rm.write(ctx, "created", &want, func() error { return rm.config.Client.Create(ctx, &want) })
		case err == nil && !(equality.Semantic.DeepEqual(have.Rules, want.Rules) && have.AggregationRule == nil && have.Labels[LabelRole] == want.Labels[LabelRole]):
			have.Rules, have.AggregationRule = want.Rules, nil
			for name, value := range want.Labels {
				metav1.SetMetaDataLabel(&have.ObjectMeta, name, value)
			}
			err = rm.write(ctx, "updated", &have, func() error { return rm.config.Client.Update(ctx, &have) })
		}
		if err != nil {
			return fmt.Errorf("failed to create/update role %s: %w", want.Name, err)
		}
	}
	return nil
}

// write writes a role, and records it before and after.
func (rm *RBACManager) write(ctx context.Context, operation string, role *rbacv1.ClusterRole, do func() error) error {
	who, err := rm.self(ctx)
	if err != nil {
		return err
	}
	said := func(outcome string, failure error) error {
		e := &event.Event{ID: event.NewID(rm.config.Now()), EventType: "ConfigChanged", Timestamp: rm.config.Now().UTC(), Outcome: outcome, Actor: actor(who),
			Resource: event.Resource{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: role.Name, UID: string(role.UID)}}
		if failure != nil {
			e.Error.Message = failure.Error()
		}
		return rm.send(ctx, e, map[string]string{"operation": operation})
	}
	if err := said(event.OutcomePending, nil); err != nil {
		return err
	}
	outcome := event.OutcomeSuccess
	if err = do(); err != nil {
		outcome = event.OutcomeFailure
	}
	return errors.Join(err, said(outcome, err))
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
	who, err := rm.authorize(ctx, "RoleGranted", g)
	if err != nil {
		return err
	}
	binding := g.binding()
	return rm.change(ctx, "RoleGranted", g, who, binding, func(ctx context.Context) error {
		err := rm.config.Client.Create(ctx, binding)
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		have, err := rm.find(ctx, g)
		if err != nil {
			return err
		}
		annotations := merged(have.GetAnnotations(), binding.GetAnnotations())
		if g.Expires.IsZero() {
			delete(annotations, AnnotationExpires)
		}
		have.SetAnnotations(annotations)
		have.SetLabels(merged(have.GetLabels(), binding.GetLabels()))
		err = rm.config.Client.Update(ctx, have)
		binding.SetUID(have.GetUID())
		binding.SetResourceVersion(have.GetResourceVersion())
		return err
	}, func(ctx context.Context) error {
		have, err := rm.find(ctx, g)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && have.GetAnnotations()[AnnotationExpires] != binding.GetAnnotations()[AnnotationExpires]:
			return errNotDone
		case err == nil:
			binding.SetUID(have.GetUID())
			binding.SetResourceVersion(have.GetResourceVersion())
		}
		return err
	})
}

// Revoke revokes a role. It returns [ErrNotFound] if it is not granted.
func (rm *RBACManager) Revoke(ctx context.Context, g Grant) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	who, err := rm.authorize(ctx, "RoleRevoked", g)
	if err != nil {
		return err
	}
	have, err := rm.find(ctx, g)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return rm.remove(ctx, g, who, have)
}

// remove deletes a binding as it was read: not one that was made since, nor one that was
// given another end.
func (rm *RBACManager) remove(ctx context.Context, g Grant, who string, have client.Object) error {
	uid, version := have.GetUID(), have.GetResourceVersion()
	return rm.change(ctx, "RoleRevoked", g, who, have, func(ctx context.Context) error {
		return client.IgnoreNotFound(rm.config.Client.Delete(ctx, have, client.Preconditions{UID: &uid, ResourceVersion: &version}))
	}, func(ctx context.Context) error {
		now := have.DeepCopyObject().(client.Object)
		err := rm.config.Client.Get(ctx, client.ObjectKeyFromObject(have), now)
		if apierrors.IsNotFound(err) || err == nil && now.GetUID() != uid {
			return nil
		}
		return cmp.Or(err, errNotDone)
	})
}

// List returns the grants of all roles, those that have expired and are still
// there among them.
func (rm *RBACManager) List(ctx context.Context) ([]Grant, error) {
	bindings, err := rm.bindings(ctx)
	var grants []Grant
	for _, b := range bindings {
		ref, subjects := says(b)
		grants = append(grants, grantsOf(b, ref, subjects)...)
	}
	slices.SortFunc(grants, func(a, b Grant) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Role, b.Role), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind))
	})
	return grants, err
}

// bindings returns all bindings that bear the label of a role.
func (rm *RBACManager) bindings(ctx context.Context) ([]client.Object, error) {
	var cluster rbacv1.ClusterRoleBindingList
	var namespaced rbacv1.RoleBindingList
	ours := client.HasLabels{LabelRole}
	if err := errors.Join(rm.config.Client.List(ctx, &cluster, ours), rm.config.Client.List(ctx, &namespaced, ours)); err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	var all []client.Object
	for i := range cluster.Items {
		all = append(all, &cluster.Items[i])
	}
	for i := range namespaced.Items {
		all = append(all, &namespaced.Items[i])
	}
	return all, nil
}

// Expire revokes what has expired, whomever the binding names by now, and what says
// an end that cannot be read. It returns how many bindings it deleted; where one
// cannot be deleted it goes on with the others.
func (rm *RBACManager) Expire(ctx context.Context) (int, error) {
	bindings, err := rm.bindings(ctx)
	n := 0
	for _, b := range bindings {
		end, ends := b.GetAnnotations()[AnnotationExpires]
		at, wrong := time.Parse(time.RFC3339Nano, end)
		if !ends || wrong == nil && at.After(rm.config.Now()) {
			continue
		}
		ref, subjects := says(b)
		grants := grantsOf(b, ref, subjects)
		if len(grants) == 0 {
			err = errors.Join(err, fmt.Errorf("%s: it has an end, and grants no role", b.GetName()))
			continue
		}
		for i := range grants { // of one binding, all of which go with it
			grants[i].Reason = "expired at " + end
		}
		who, failed := rm.self(ctx)
		if failed == nil {
			failed = rm.remove(ctx, grants[0], who, b)
		}
		for _, g := range grants[1:] {
			failed = errors.Join(failed, rm.record(ctx, "RoleRevoked", g, who, b, event.OutcomeSuccess, nil))
		}
		if failed == nil {
			n++
		}
		err = errors.Join(err, failed)
	}
	return n, err
}

// settling is for how long the result of what was done is waited for, and
// recorded, though nobody waits for it any more.
const settling = 10 * time.Second

// change records that a binding is to be changed, does it, and records what came
// of it. done looks whether it was done, where the answer to do leaves that open.
func (rm *RBACManager) change(ctx context.Context, eventType string, g Grant, who string, binding client.Object, do, done func(ctx context.Context) error) error {
	if err := rm.record(ctx, eventType, g, who, binding, event.OutcomePending, nil); err != nil {
		return err
	}
	err := do(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer cancel()
	outcome := event.OutcomeSuccess
	if err != nil {
		err = fmt.Errorf("%s %s: %w", g.bindingKind(), binding.GetName(), err)
		outcome = event.OutcomeFailure
		if !refused(err) {
			switch open := done(ctx); {
			case open == nil:
				outcome = event.OutcomeSuccess
			case !errors.Is(open, errNotDone):
				outcome = event.OutcomeUnknown
			}
		}
	}
	return errors.Join(err, rm.record(ctx, eventType, g, who, binding, outcome, err))
}

// errNotDone means that a change was not made.
var errNotDone = errors.New("not done")

// refused reports whether the API server has said that it did not do it.
func refused(err error) bool {
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonUnauthorized, metav1.StatusReasonForbidden, metav1.StatusReasonNotFound, metav1.StatusReasonAlreadyExists, metav1.StatusReasonConflict,
		metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonTooManyRequests:
		return true
	}
	return false
}

// record records what is done to a binding, or was. What was has its fact.
func (rm *RBACManager) record(ctx context.Context, eventType string, g Grant, who string, binding client.Object, outcome string, failure error) error {
	e := &event.Event{ID: event.NewID(rm.config.Now()), EventType: eventType, Timestamp: rm.config.Now().UTC(), Outcome: outcome, Actor: actor(who),
		Resource: event.Resource{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: g.bindingKind(), Namespace: g.Namespace, Name: binding.GetName(), UID: string(binding.GetUID())}}
	if outcome == event.OutcomeSuccess && e.Resource.UID != "" {
		who := g.subject()
		e.Fact = e.Resource.UID + "/" + eventType + "/" + who.Kind + " " + who.Namespace + "/" + who.Name
		if eventType == "RoleGranted" {
			e.Fact += " " + binding.GetResourceVersion()
		}
	}
	if failure != nil {
		e.Error.Message = failure.Error()
		if errors.Is(failure, ErrForbidden) || apierrors.IsForbidden(failure) {
			e.Error.Code = "forbidden"
		}
	}
	return rm.send(ctx, e, g.details(eventType))
}

func (rm *RBACManager) send(ctx context.Context, e *event.Event, details map[string]string) error {
	err := e.SetDetails(details)
	if err == nil {
		err = rm.config.Sender.Record(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", e.EventType, err)
	}
	return nil
}

// actor returns a user of the API server as an event's actor.
func actor(username string) event.Actor {
	a := event.Actor{Type: event.ActorUser, Name: username}
	if strings.HasPrefix(username, serviceAccounts) {
		a.Type, a.ServiceAccount = event.ActorService, username
	}
	return a
}

// self returns the client's own user.
func (rm *RBACManager) self(ctx context.Context) (string, error) {
	var self authenticationv1.SelfSubjectReview
	if err := rm.config.Client.Create(ctx, &self); err != nil {
		return "", fmt.Errorf("ask who we are: %w", err)
	}
	return self.Status.UserInfo.Username, nil
}

// authorize returns who asks. If they have not the verb "bind" on the role, the
// error wraps ErrForbidden, and it is recorded.
func (rm *RBACManager) authorize(ctx context.Context, eventType string, g Grant) (who string, err error) {
	asked := &authorizationv1.ResourceAttributes{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: prefix + g.Role, Namespace: g.Namespace}
	var status authorizationv1.SubjectAccessReviewStatus
	if g.By == nil {
		if who, err = rm.self(ctx); err != nil {
			return "", err
		}
		review := authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: asked}}
		err = rm.config.Client.Create(ctx, &review)
		status = review.Status
	} else {
		who = g.By.Username
		review := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: asked,
			User: who, UID: g.By.UID, Groups: g.By.Groups, Extra: extra(g.By.Extra)}}
		err = rm.config.Client.Create(ctx, &review)
		status = review.Status
	}
	if err != nil {
		return who, fmt.Errorf("ask what %s may do: %w", who, err)
	}
	if !status.Allowed || status.Denied {
		err := fmt.Errorf("%w: %s may not bind %s", ErrForbidden, who, prefix+g.Role)
		return who, errors.Join(err, rm.record(ctx, eventType, g, who, g.binding(), event.OutcomeFailure, err))
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
	if name, ok := strings.CutPrefix(g.Name, serviceAccounts); ok && g.Kind == rbacv1.UserKind {
		g.Kind, g.Name = rbacv1.ServiceAccountKind, name // the same, in other words
	}
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
	var found client.Object = &rbacv1.ClusterRoleBinding{}
	if g.Namespace != "" {
		found = &rbacv1.RoleBinding{}
	}
	err := rm.config.Client.Get(ctx, client.ObjectKey{Namespace: g.Namespace, Name: g.bindingName()}, found)
	ref, subjects := says(found)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%w: %s %s", ErrNotFound, g.bindingKind(), g.bindingName())
	case err != nil:
		return nil, err
	case ref.Kind != "ClusterRole" || ref.Name != prefix+g.Role || !slices.Equal(subjects, []rbacv1.Subject{g.subject()}):
		return nil, fmt.Errorf("%s %s was changed by somebody: it binds %s to %v", g.bindingKind(), g.bindingName(), ref.Name, subjects)
	}
	return found, nil
}

// says returns the role and the subjects of a binding.
func says(binding client.Object) (rbacv1.RoleRef, []rbacv1.Subject) {
	switch b := binding.(type) {
	case *rbacv1.ClusterRoleBinding:
		return b.RoleRef, b.Subjects
	case *rbacv1.RoleBinding:
		return b.RoleRef, b.Subjects
	}
	return rbacv1.RoleRef{}, nil
}

// grantsOf returns what a binding grants.
func grantsOf(b metav1.Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject) (grants []Grant) {
	role, ok := strings.CutPrefix(ref.Name, prefix)
	if !ok || ref.Kind != "ClusterRole" || checkRole(role) != nil {
		return nil
	}
	expires, _ := time.Parse(time.RFC3339Nano, b.GetAnnotations()[AnnotationExpires]) // see Expire
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
