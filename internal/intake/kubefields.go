package intake

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/redact"
)

func (k *kubeEvent) actor() event.Actor {
	name := k.User.Username
	a := event.Actor{Type: event.ActorUser, Name: clip(name, event.MaxString)}
	account, isAccount := strings.CutPrefix(name, "system:serviceaccount:")
	switch {
	case name == "":
		a.Name = "unauthenticated"
	case isAccount:
		a.Type = event.ActorService
		a.ServiceAccount = clip(account[strings.LastIndexByte(account, ':')+1:], event.MaxString)
	case name == "system:anonymous": // which may be anybody
	case strings.HasPrefix(name, "system:"):
		a.Type = event.ActorSystem
	}
	return a
}

// resource says what the request was about. Where the reference lacks name or
// uid, as for creations, they come from the object itself.
func (k *kubeEvent) resource(request, response any) event.Resource {
	ref := k.ObjectRef
	if ref.Resource == "" {
		path, _, _ := strings.Cut(k.RequestURI, "?")
		return event.Resource{Kind: "NonResource", Name: clip(path, event.MaxString)}
	}
	r := event.Resource{APIVersion: ref.APIVersion, Namespace: ref.Namespace, Name: ref.Name, UID: ref.UID}
	if ref.APIGroup != "" {
		r.APIVersion = strings.TrimSuffix(ref.APIGroup+"/"+ref.APIVersion, "/")
	}
	r.Kind = kinds()[groupResource{ref.APIGroup, ref.Resource}]
	for _, object := range []any{response, request} {
		if version, _ := get(object, "apiVersion").(string); version != r.APIVersion {
			continue // a Status, a Scale, options: not the object itself
		}
		kind, _ := get(object, "kind").(string)
		if r.Kind == "" {
			r.Kind = kind
			if k.Verb == "list" || k.Verb == "deletecollection" {
				r.Kind = strings.TrimSuffix(kind, "List")
			}
		}
		if kind == r.Kind {
			name, _ := get(object, "metadata", "name").(string)
			uid, _ := get(object, "metadata", "uid").(string)
			r.Name, r.UID = or(r.Name, name), or(r.UID, uid)
		}
	}
	if k.ResponseStatus != nil {
		r.UID = or(r.UID, k.ResponseStatus.Details.UID)
	}
	r.Kind = or(r.Kind, ref.Resource)
	for _, s := range []*string{&r.APIVersion, &r.Kind, &r.Namespace, &r.Name, &r.UID} {
		*s = clip(*s, event.MaxString)
	}
	return r
}

// role is what the request's objects are to redaction, whatever they claim.
func (k *kubeEvent) role() redact.Role {
	ref := k.ObjectRef
	switch {
	case ref.Resource == "secrets":
		return redact.Secret
	case ref.Resource == "tokenreviews", ref.Resource == "tokenrequests", ref.Subresource == "token":
		return redact.Token
	}
	return redact.Plain
}

func (k *kubeEvent) outcome() (string, event.Failure) {
	s := k.ResponseStatus
	failed := k.Stage == "Panic"
	switch {
	case s == nil:
	case s.Code >= 400, s.Code == 0 && s.Status == "Failure":
		failed = true
	case s.Code > 0 && !failed:
		return event.OutcomeSuccess, event.Failure{}
	}
	switch {
	case failed && s != nil:
		code := s.Reason
		if code == "" && s.Code != 0 {
			code = strconv.Itoa(s.Code)
		}
		return event.OutcomeFailure, event.Failure{Code: clip(code, event.MaxString), Message: clip(s.Message, event.MaxMessage)}
	case failed:
		return event.OutcomeFailure, event.Failure{}
	case k.Stage == "RequestReceived":
		return event.OutcomePending, event.Failure{}
	}
	return event.OutcomeUnknown, event.Failure{}
}

// severity ranks a request by what it could do; done says that it was carried
// out, and not as a dry run.
func (k *kubeEvent) severity(done bool) string {
	ref := k.ObjectRef
	reads := slices.Contains([]string{"get", "list", "watch", "head", "options"}, k.Verb)
	code := 0
	if k.ResponseStatus != nil {
		code = k.ResponseStatus.Code
	}
	rules := ref.APIGroup == "rbac.authorization.k8s.io" || ref.APIGroup == "admissionregistration.k8s.io"
	switch {
	case !reads && done && (rules || k.ImpersonatedUser != nil):
		return event.SeverityHigh
	case code == 401, code == 403,
		k.Verb == "delete", k.Verb == "deletecollection",
		slices.Contains([]string{"exec", "attach", "portforward", "proxy"}, ref.Subresource),
		reads && ref.Resource == "secrets",
		ref.Resource == "serviceaccounts" && ref.Subresource == "token", ref.Resource == "tokenrequests":
		return event.SeverityMedium
	case reads:
		return event.SeverityInfo
	}
	return event.SeverityLow
}

// isDryRun looks where each kind of request says so.
func isDryRun(uri string, request any) bool {
	if _, query, ok := strings.Cut(uri, "?"); ok {
		values, _ := url.ParseQuery(query) // what it could parse
		if slices.Contains(values["dryRun"], "All") {
			return true
		}
	}
	for _, options := range []any{request, get(request, "deleteOptions")} {
		if list, ok := get(options, "dryRun").([]any); ok && slices.Contains(list, any("All")) {
			return true
		}
	}
	return false
}
