package controller

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/protection"
	"github.com/graven-audit/graven/trail"
)

// kind is that of AuditEvents. They are read as they stand, and not into a type,
// so that no field of a definition that is not ours is lost on the way.
var kind = v1alpha1.GroupVersion.WithKind("AuditEvent")

func newAuditEvent() *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetGroupVersionKind(kind)
	return u
}

// A receipt says where an event stands in which ledger.
type receipt struct {
	index  int64
	leaf   string // in hexadecimal
	origin string
}

// receiptOf returns the receipt that an object bears, if it bears a whole one.
func receiptOf(u *unstructured.Unstructured) (r receipt, ok bool) {
	a := u.GetAnnotations()
	index, err := strconv.ParseInt(a[v1alpha1.AnnotationIndex], 10, 64)
	r = receipt{index, a[v1alpha1.AnnotationLeafHash], a[v1alpha1.AnnotationOrigin]}
	return r, err == nil && index >= 0 && r.leaf != "" && r.origin != ""
}

// claims reports whether an object bears anything of a receipt, or the mark of a
// mirror.
func claims(u *unstructured.Unstructured) bool {
	a := u.GetAnnotations()
	for _, name := range []string{v1alpha1.AnnotationIndex, v1alpha1.AnnotationLeafHash, v1alpha1.AnnotationOrigin} {
		if _, ok := a[name]; ok {
			return true
		}
	}
	return u.GetLabels()[v1alpha1.LabelMirror] != ""
}

// annotations returns the receipt as the object with that uid bears it.
func (r receipt) annotations(uid string) map[string]string {
	return map[string]string{v1alpha1.AnnotationIndex: strconv.FormatInt(r.index, 10), v1alpha1.AnnotationLeafHash: r.leaf,
		v1alpha1.AnnotationOrigin: r.origin, v1alpha1.AnnotationSealedUID: uid}
}

// eventOf returns the event that an object is.
func eventOf(u *unstructured.Unstructured) (*event.Event, error) {
	bare := u.DeepCopy()
	bare.SetManagedFields(nil)
	delete(bare.Object, "status") // which another's definition may have, and may change
	raw, err := bare.MarshalJSON()
	if err != nil {
		return nil, err
	}
	events, err := intake.AuditEvent(bytes.TrimSpace(raw))
	if err != nil {
		return nil, err
	}
	return events[0], nil
}

// says reports whether a line of the ledger is what an object says. What was erased
// is not compared.
func says(u *unstructured.Unstructured, line *trail.Line) bool {
	e, err := eventOf(u)
	if err != nil {
		return false
	}
	was := line.Event.Clone()
	was.Recorded, was.Source = event.Recorded{}, event.Source{}
	e.Source = event.Source{}
	if e.ID != was.ID { // it gave way to another, and is the object's all the same
		had, kept := was.Original["id"]
		if _, own := e.Original["id"]; !was.ID.Reserved() || kept && !own && had != e.ID.String() {
			return false
		}
		e.ID = was.ID
	}
	for _, added := range []string{"id", v1alpha1.AnnotationCreatedBy} {
		if _, own := e.Original[added]; !own {
			delete(was.Original, added)
		}
	}
	e.Cluster = cmp.Or(e.Cluster, was.Cluster)
	if was.Fact == "" { // it was sealed before facts were known
		e.Fact = ""
	}
	e.Complete(was.Timestamp)
	e.Recorded = event.Recorded{}
	if line.Record.Erasable == nil {
		e.Details, e.Error.Message, e.Original = nil, "", nil
		was.Details, was.Error.Message, was.Original = nil, "", nil
	}
	return bytes.Equal(e.AppendJSON(nil), was.AppendJSON(nil))
}

// correlationOf returns the incident that an object belongs to; empty for none.
func correlationOf(u *unstructured.Unstructured) string {
	for _, field := range []string{"correlationID", "correlationId"} {
		if id, _, _ := unstructured.NestedString(u.Object, "spec", field); id != "" {
			return id
		}
	}
	return u.GetLabels()[v1alpha1.LabelCorrelationID]
}

var (
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
)

// nameOf returns the name of an event's mirror. Names of events are not unique:
// where another event has it already, the second form has the id in it.
func nameOf(e *event.Event, second bool) string {
	name := e.Name
	if len(name) > 200 || !objectName.MatchString(name) {
		name = "audit-" + e.ID.String()
	}
	if second {
		name += "-" + e.ID.String()
	}
	return name
}

// mirrorOf returns a line of the ledger as an AuditEvent, for an API server that
// serves a definition. In part, it has no content that needs much room.
func mirrorOf(line *trail.Line, origin, namespace string, d *protection.Definition, part bool) (*unstructured.Unstructured, error) {
	e := line.Event
	spec := v1alpha1.AuditEventSpec{
		ID: e.ID.String(), Name: e.Name, EventType: e.EventType, Timestamp: v1alpha1.NewTimestamp(e.Timestamp),
		Actor: v1alpha1.AuditActor{Type: e.Actor.Type, Name: e.Actor.Name, ServiceAccount: e.Actor.ServiceAccount, Controller: e.Actor.Controller},
		Resource: v1alpha1.AuditResource{APIVersion: e.Resource.APIVersion, Kind: e.Resource.Kind, Namespace: e.Resource.Namespace,
			Name: e.Resource.Name, UID: e.Resource.UID},
		Category: e.Category, Action: e.Action, Outcome: e.Outcome, Severity: e.Severity, CorrelationID: e.CorrelationID, Cluster: e.Cluster,
		Fact: e.Fact, DurationMs: e.DurationMs, RetentionDays: int32(e.RetentionDays), Sensitive: e.Sensitive}
	if !e.ParentID.IsZero() {
		spec.ParentID = e.ParentID.String()
	}
	if e.Source.Name != "" {
		spec.Source = &v1alpha1.AuditSource{Name: e.Source.Name, Epoch: e.Source.Epoch, Seq: e.Source.Seq}
	}
	if e.Error.Code != "" || e.Error.Message != "" {
		spec.Error = &v1alpha1.AuditError{Code: e.Error.Code}
	}
	size := "partial"
	if !part {
		size = "whole"
		var err error
		if spec.Details, err = textOf(e.Details); err != nil {
			return nil, fmt.Errorf("details of entry %d: %w", line.Record.Index, err)
		}
		if spec.Error != nil {
			spec.Error.Message = e.Error.Message
		}
		for name, value := range e.Original {
			if spec.Original == nil {
				spec.Original = map[string]v1alpha1.AuditDetail{}
			}
			spec.Original[name] = v1alpha1.AuditDetail(value)
		}
	}
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return nil, err
	}
	d.Adapt(body)
	u := newAuditEvent()
	u.Object["spec"] = body
	u.SetNamespace(namespace)
	u.SetName(nameOf(e, false))
	labels := map[string]string{v1alpha1.LabelMirror: size}
	for name, value := range map[string]string{v1alpha1.LabelEventType: e.EventType, v1alpha1.LabelSeverity: e.Severity,
		v1alpha1.LabelCorrelationID: e.CorrelationID} {
		if labelValue.MatchString(value) {
			labels[name] = value
		}
	}
	u.SetLabels(labels)
	annotations := receiptIn(line, origin).annotations("")
	delete(annotations, v1alpha1.AnnotationSealedUID) // it has none yet
	annotations[v1alpha1.AnnotationImmutable] = "true"
	u.SetAnnotations(annotations)
	return u, nil
}

// receiptIn returns the receipt of a line.
func receiptIn(line *trail.Line, origin string) receipt {
	leaf := line.Record.LeafHash()
	return receipt{line.Record.Index, hex.EncodeToString(leaf[:]), origin}
}

// textOf returns details whose values are text: what is none is in JSON.
func textOf(details json.RawMessage) (map[string]v1alpha1.AuditDetail, error) {
	if len(details) == 0 {
		return nil, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(details, &values); err != nil {
		return nil, err
	}
	texts := make(map[string]v1alpha1.AuditDetail, len(values))
	for name, value := range values {
		var text string
		if err := json.Unmarshal(value, &text); err != nil || value[0] != '"' {
			text = string(value)
		}
		texts[name] = v1alpha1.AuditDetail(text)
	}
	return texts, nil
}

// mirrors reports whether an object says what a line of the ledger says.
func mirrors(u *unstructured.Unstructured, line *trail.Line, origin string, d *protection.Definition) bool {
	claimed, ok := receiptOf(u)
	if !ok || claimed != receiptIn(line, origin) {
		return false
	}
	want, err := mirrorOf(line, origin, u.GetNamespace(), d, u.GetLabels()[v1alpha1.LabelMirror] == "partial")
	if err != nil {
		return false
	}
	d.Prune(want.Object)
	labels := u.GetLabels()
	for name := range want.GetLabels() {
		if labels[name] != want.GetLabels()[name] {
			return false
		}
	}
	return reflect.DeepEqual(u.Object["spec"], want.Object["spec"])
}

// within reports whether a line of the ledger says all that an object says, which may
// be less: another's definition drops what it does not know.
func within(u *unstructured.Unstructured, line *trail.Line) bool {
	want, err := mirrorOf(line, "", "", new(protection.Definition), false)
	if err != nil {
		return false
	}
	have, _, _ := unstructured.NestedMap(u.Object, "spec")
	if id, ok := have["correlationId"]; ok {
		delete(have, "correlationId")
		have["correlationID"] = id
	}
	if line.Record.Erasable == nil { // which it still shows
		for _, field := range []string{"details", "original", "error"} {
			delete(have, field)
		}
	}
	return part(have, want.Object["spec"].(map[string]any))
}

// part reports whether all members of an object are those of another.
func part(have, of map[string]any) bool {
	for name, value := range have {
		if m, ok := value.(map[string]any); ok {
			if w, ok := of[name].(map[string]any); !ok || !part(m, w) {
				return false
			}
		} else if !reflect.DeepEqual(value, of[name]) {
			return false
		}
	}
	return true
}

// describe returns an object as the resource that an event is about.
func describe(u *unstructured.Unstructured) event.Resource {
	return event.Resource{APIVersion: u.GetAPIVersion(), Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName(), UID: string(u.GetUID())}
}

// creatorOf returns who an object says has created it.
func creatorOf(m metav1.Object) string { return m.GetAnnotations()[v1alpha1.AnnotationCreatedBy] }
