package auditlog

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/graven-audit/graven/internal/capture"
)

// TypeRequest is the type of the events that tell of requests in audit logs.
const TypeRequest = "KubernetesAPIRequest"

// A Request is what an audit log says of one, as far as it is held against anything.
type Request struct {
	AuditID string
	Stage   string
	Verb    string
	URI     string
	// User is who was authenticated, with their groups, and Impersonated whom they
	// acted for, if anybody.
	User         string
	Groups       []string
	Impersonated string
	// Group to Name say what the request is about; Resource is empty where it is about
	// no resource. A name may lack where something is created.
	Group, Version, Resource, Subresource, Namespace, Name string
	Code                                                   int // the answer's, of HTTP
	DryRun                                                 bool
	// Intents are events that were recorded of the request at admission.
	Intents []string
}

// document is a request as it stands in an audit log, and in the details of an event.
type document struct {
	AuditID    string `json:"auditID"`
	Stage      string `json:"stage"`
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string   `json:"username"`
		Groups   []string `json:"groups"`
	} `json:"user"`
	ImpersonatedUser struct {
		Username string `json:"username"`
	} `json:"impersonatedUser"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		APIVersion  string `json:"apiVersion"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Annotations map[string]string `json:"annotations"`
	DryRun      bool              `json:"dryRun"` // which an event says
}

// Read reads a request, of an audit log's line or of an event's details.
func Read(text []byte) (*Request, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read an audit event: %w", err)
	}
	r := &Request{AuditID: d.AuditID, Stage: d.Stage, Verb: d.Verb, URI: d.RequestURI, User: d.User.Username, Groups: d.User.Groups, Impersonated: d.ImpersonatedUser.Username,
		Group: d.ObjectRef.APIGroup, Version: d.ObjectRef.APIVersion, Resource: d.ObjectRef.Resource, Subresource: d.ObjectRef.Subresource,
		Namespace: d.ObjectRef.Namespace, Name: d.ObjectRef.Name, Code: d.ResponseStatus.Code, DryRun: d.DryRun}
	for name, value := range d.Annotations {
		if webhook, ok := strings.CutSuffix(name, "/"+capture.DetailIntent); ok && strings.HasSuffix(webhook, capture.WebhookSuffix) {
			r.Intents = append(r.Intents, strings.Fields(value)...)
		}
	}
	slices.Sort(r.Intents)
	return r, nil
}

// Wrote reports whether a request has changed something.
func (r *Request) Wrote() bool {
	return r.Stage == "ResponseComplete" && slices.Contains(writes, r.Verb) && r.Resource != "" && r.Code >= 200 && r.Code < 300 && !r.DryRun
}

var writes = []string{"create", "update", "patch", "delete", "deletecollection"}

// Done reports whether a request has ended, or begun to be answered, and was not
// refused.
func (r *Request) Done() bool { return r.Code > 0 && r.Code < 400 }

// parameter returns a parameter of the request's address.
func (r *Request) parameter(name string) string {
	_, query, _ := strings.Cut(r.URI, "?")
	values, _ := url.ParseQuery(query) // what it could parse
	return values.Get(name)
}
