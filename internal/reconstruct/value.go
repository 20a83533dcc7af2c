package reconstruct

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/snapshot"
)

// value returns what a rule takes over from a telling of a fact; nil for nothing.
func (o *Object) value(r *rule, f *fact.Fact, t *fact.Told, facts []*fact.Fact) any {
	var raw map[string]any
	for spec := range strings.SplitSeq(r.value, "|") {
		name, as, _ := strings.Cut(spec, ">")
		var v any
		switch {
		case strings.HasPrefix(name, "="):
			v = name[1:]
		case strings.HasPrefix(name, "@"):
			v = o.special(name[1:], f, t, facts)
		default:
			if raw == nil {
				raw = decoded(t.Event)
			}
			v = raw[name]
		}
		switch v.(type) {
		case map[string]any, []any:
			if as == "" && name[0] == '@' {
				return v
			}
		}
		if v = converted(v, as); v != nil && v != "" {
			return v
		}
	}
	return nil
}

// decoded returns an event's details, with numbers as they stand there.
func decoded(e *event.Event) map[string]any {
	m := map[string]any{}
	if len(e.Details) > 0 {
		d := json.NewDecoder(bytes.NewReader(e.Details))
		d.UseNumber()
		if d.Decode(&m) != nil {
			return map[string]any{}
		}
	}
	return m
}

// clock writes a time as Kubernetes has it.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// special returns what is to be said of a fact that is no detail of it.
func (o *Object) special(name string, f *fact.Fact, t *fact.Told, facts []*fact.Fact) any {
	e := t.Event
	switch name {
	case "time":
		return clock(f.At())
	case "first": // of several, when it began
		if had := snapshot.Text(o.Object, "status", "startedAt"); had != "" {
			return had
		}
		return clock(f.At())
	case "who":
		who, _, _ := f.Who()
		return who
	case "decider":
		who, kind, _ := f.Who()
		if kind != event.ActorUser && strings.EqualFold(f.Detail("decision"), "expired") {
			return "system"
		}
		return who
	case "severity":
		return e.Severity
	case "namespace":
		return e.Resource.Namespace
	case "correlation":
		return e.CorrelationID
	case "issue":
		return cmp.Or(o.issue, e.CorrelationID)
	case "decision":
		if said := f.Detail("decision"); said != "" {
			return strings.ToUpper(said[:1]) + strings.ToLower(said[1:])
		}
		switch e.EventType {
		case "orchestrator.approval.approved":
			return "Approved"
		case "orchestrator.approval.rejected":
			return "Rejected"
		}
	case "phase":
		had := snapshot.Text(o.Object, "status", "overallPhase")
		if slices.Contains([]string{"Completed", "Failed", "TimedOut", "Skipped", "Cancelled"}, had) {
			return had // the transition has told it
		}
		switch {
		case e.EventType == "orchestrator.lifecycle.failed" || e.Outcome == event.OutcomeFailure:
			return "Failed"
		case e.Outcome == event.OutcomeSuccess:
			return "Completed"
		}
	case "workflow":
		image := f.Detail("container_image", "execution_bundle")
		ref := map[string]any{"workflowId": cmp.Or(f.Detail("workflow_id"), unknown), "version": cmp.Or(f.Detail("workflow_version"), unknown), "executionBundle": cmp.Or(image, unknown)}
		if _, digest, ok := strings.Cut(image, "@"); ok {
			ref["executionBundleDigest"] = digest
		}
		for _, member := range []string{"workflowId", "version", "executionBundle"} {
			if ref[member] == unknown {
				o.Warnings = append(o.Warnings, "status.selectedWorkflowRef."+member+" is a placeholder: entry "+strconv.FormatInt(t.Index, 10)+" does not say it")
			}
		}
		return ref
	case "execution":
		name := f.Detail("execution_name")
		if e.Resource.Kind == "WorkflowExecution" {
			name = e.Resource.Name
		}
		if name == "" {
			return nil
		}
		ref := map[string]any{"apiVersion": "kubernaut.ai/v1alpha1", "kind": "WorkflowExecution", "name": name}
		if ns := cmp.Or(e.Resource.Namespace, o.Namespace); ns != "" {
			ref["namespace"] = ns
		}
		return ref
	case "escalated":
		if f.Detail("fromSeverity") == "" { // else it became graver, and is not given up
			return "Escalated"
		}
	case "resolved":
		for _, c := range facts { // ChatCLI calls what is contained resolved, too
			mode := strings.ToLower(f.Detail("mode"))
			if c.Event().EventType == "IssueContained" && c.At().Sub(f.At()).Abs() <= 5*time.Second && c.Event().Resource.Name == e.Resource.Name &&
				e.Actor.Type != event.ActorUser && !strings.Contains(mode, "human") && mode != "manual" {
				return "Contained"
			}
		}
		return "Resolved"
	case "planned": // and that it waits is told as the same
		return cmp.Or(f.Detail("phase"), "Pending")
	case "rolledback":
		if f.Detail("rollbackPerformed") == "true" || f.Detail("state") == "RolledBack" {
			return "RolledBack"
		}
		return "Failed"
	case "decisions":
		who, _, _ := f.Who()
		decision := map[string]any{"approver": cmp.Or(who, unknown), "decision": "approved", "timestamp": clock(f.At())}
		if e.EventType == "ApprovalRejected" {
			decision["decision"] = "rejected"
		}
		if reason := f.Detail("reason"); reason != "" {
			decision["reason"] = reason
		}
		had, _ := snapshot.At(o.Object, "status", "decisions").([]any)
		return append(slices.Clone(had), decision)
	}
	return nil
}

var hex64 = regexp.MustCompile(`^[a-f0-9]{64}$`)

// converted returns a value as a member of another type; nil where it is none.
func converted(v any, as string) any {
	text := fact.Words(v)
	switch as {
	case "":
		if v == nil {
			return nil
		}
		return text
	case "text":
		if s, ok := v.(string); ok {
			return s
		}
		return text
	case "int":
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			return n
		}
	case "number":
		if n, err := strconv.ParseFloat(text, 64); err == nil && n-n == 0 {
			return json.Number(strconv.FormatFloat(n, 'f', -1, 64))
		}
	case "bool":
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	case "time":
		if t, err := event.ParseTime(text); err == nil {
			return clock(t)
		}
	case "level":
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return level(n)
		}
	case "fingerprint":
		if hex64.MatchString(text) {
			return text
		}
	case "signal":
		if text == "" || strings.Contains(text, "alert") || strings.Contains(text, "event") {
			return "alert" // as Kubernaut's gateway has it, whatever the source
		}
		return text
	case "first":
		first, _, _ := strings.Cut(text, "/")
		return title(first)
	case "last":
		if _, last, ok := strings.Cut(text, "/"); ok {
			return last
		}
	case "firing":
		return firing(v)
	case "texts", "durations":
		return texts(v)
	case "actions", "suggested":
		return actions(v, as)
	}
	return nil
}

// level is how sure a confidence is, in Kubernaut's words.
func level(n float64) string {
	switch {
	case n >= 0.8:
		return "high"
	case n >= 0.6:
		return "medium"
	}
	return "low"
}

// kindsOfTargets are kinds whose names are more than one word, as targets write them.
var kindsOfTargets = map[string]string{"statefulset": "StatefulSet", "daemonset": "DaemonSet", "replicaset": "ReplicaSet", "cronjob": "CronJob"}

func title(kind string) string {
	if kind == "" {
		return ""
	}
	if known := kindsOfTargets[strings.ToLower(kind)]; known != "" {
		return known
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}

// texts are the members of a map that are texts.
func texts(v any) any {
	if s, ok := v.(string); ok {
		var m map[string]any
		if json.Unmarshal([]byte(s), &m) != nil {
			return nil
		}
		v = m
	}
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		return nil
	}
	out := map[string]any{}
	for name, member := range m {
		if text := fact.Words(member); text != "" {
			out[name] = text
		}
	}
	return out
}

// firing finds in a signal's payload since when it fires, as Alertmanager has it.
func firing(v any) any {
	if s, ok := v.(string); ok {
		var m any
		if json.Unmarshal([]byte(s), &m) != nil {
			return nil
		}
		v = m
	}
	m, _ := v.(map[string]any)
	alerts, _ := m["alerts"].([]any)
	for _, from := range append([]any{m}, alerts...) {
		from, _ := from.(map[string]any)
		for _, name := range []string{"startsAt", "firstTimestamp", "firingTime"} {
			if t, err := event.ParseTime(fmt.Sprint(from[name])); err == nil {
				return clock(t)
			}
		}
	}
	return nil
}

// actions are what a plan does, or an analysis suggests, from a list or its names.
func actions(v any, as string) any {
	var all []any
	add := func(name string, whole map[string]any) {
		if name = strings.TrimSpace(name); name == "" {
			return
		}
		a := map[string]any{"type": name}
		if as == "suggested" {
			a = map[string]any{"name": cmp.Or(fact.Words(whole["name"]), name), "action": name}
			if text := fact.Words(whole["description"]); text != "" {
				a["description"] = text
			}
		}
		if params, ok := texts(whole["params"]).(map[string]any); ok {
			a["params"] = params
		}
		all = append(all, a)
	}
	switch v := v.(type) {
	case string:
		for name := range strings.SplitSeq(v, ",") {
			add(name, nil)
		}
	case []any:
		for _, member := range v {
			switch m := member.(type) {
			case map[string]any:
				add(cmp.Or(fact.Words(m["action"]), fact.Words(m["type"])), m)
			case string:
				add(m, nil)
			}
		}
	}
	if all == nil {
		return nil
	}
	return all
}
