package reconstruct

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/legible"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/internal/snapshot"
)

// A Question says what is to be reconstructed.
type Question struct {
	// At is the moment; zero for the newest that is known.
	At time.Time
	// Kind, Namespace and Name are those of the resources; empty for all.
	Kind, Namespace, Name string
	// Erased says of entries that are gone altogether, in words; empty for none.
	Erased string
}

// matches reports whether a resource is asked for.
func (q *Question) matches(r event.Resource) bool {
	return (q.Kind == "" || strings.EqualFold(q.Kind, r.Kind)) && (q.Namespace == "" || q.Namespace == r.Namespace) && (q.Name == "" || q.Name == r.Name)
}

// A Field says of a member where it comes from.
type Field struct {
	Path string `json:"path"`
	// Via is snapshot, for the state that capture kept, or event.
	Via       string `json:"via"`
	Index     int64  `json:"index"`
	ID        string `json:"id"`
	EventType string `json:"event_type"`
}

// An Unknown is a member that the trail does not give, and why.
type Unknown struct {
	Path string `json:"path"`
	Why  string `json:"why"`
	// Placeholder is set if something stands in its place, for it is required.
	Placeholder bool `json:"placeholder"`
}

// An Object is a resource, reconstructed.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Cluster    string `json:"cluster,omitempty"`
	// AsOf is when the newest thing happened that is in it.
	AsOf string `json:"as_of"`
	// Deleted is when it was deleted, before the moment that was asked for; empty if it was
	// there.
	Deleted string `json:"deleted,omitempty"`
	// Valid is set if every required member is known.
	Valid bool `json:"is_valid"`
	// Completeness says how many of the members that a resource of this kind should have
	// are known, in per cent.
	Completeness int            `json:"completeness"`
	Object       map[string]any `json:"object"`
	Fields       []Field        `json:"fields"`
	Unknown      []Unknown      `json:"unknown"`
	Errors       []string       `json:"errors"`
	Warnings     []string       `json:"warnings"`

	base    bool      // a state was kept
	at      time.Time // of that
	written map[string]time.Time
	issue   string // of the incident, if it has one
	// misnamed is set if no resource can have the name that it is known by.
	misnamed bool
}

type key struct{ cluster, kind, namespace, name string }

// Objects reconstructs what events tell of, which are given in the ledger's order.
// Broken are the states that could not be read.
func Objects(given []fact.Telling, q *Question) (objects []*Object, broken []snapshot.Broken) {
	if !q.At.IsZero() {
		given = slices.DeleteFunc(slices.Clone(given), func(t fact.Telling) bool { return t.Event.Timestamp.After(q.At) })
	}
	states, broken := snapshot.Assemble(given)
	w := world{objects: map[key]*Object{}, named: map[key]key{}, facts: map[key][]*fact.Fact{}}
	read := 0
	for i := len(states) - 1; i >= 0; i-- { // the newest counts
		st := &states[i]
		k := key{st.Cluster, st.Resource.Kind, st.Resource.Namespace, st.Resource.Name}
		if w.objects[k] != nil || !q.matches(st.Resource) {
			continue
		}
		if read += st.Size(); read > maxRead || len(w.objects) == maxObjects {
			broken = append(broken, st.Broken(errTooMuch))
			continue
		}
		object, err := st.Read()
		if err != nil {
			broken = append(broken, st.Broken(err))
			continue
		}
		w.add(k, based(st, object))
	}
	facts := fact.Of(given)
	w.name(facts)
	for _, f := range facts {
		w.tell(f, q)
	}
	w.relate(facts)
	for k, o := range w.objects {
		for _, f := range w.facts[k] {
			o.follow(f, w.facts[k])
		}
		o.complete(w.facts[k], broken, q)
		objects = append(objects, o)
	}
	slices.SortFunc(objects, func(a, b *Object) int {
		return cmp.Or(cmp.Compare(rankOf(a.Kind), rankOf(b.Kind)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Cluster, b.Cluster))
	})
	return objects, broken
}

// Bounds of what is reconstructed at once: the number of objects, and the bytes of the
// states that they are made of.
const (
	maxObjects = 200
	maxRead    = 4 << 20
)

var errTooMuch = errors.New("it is too much to reconstruct at once: ask for this resource alone")

// A world is the resources that events tell of, with the facts about each.
type world struct {
	objects map[key]*Object
	named   map[key]key // by cluster, kind and name alone
	facts   map[key][]*fact.Fact
}

func (w *world) add(k key, o *Object) {
	w.objects[k] = o
	w.named[key{k.cluster, k.kind, "", k.name}] = k
}

// elsewhere are the kinds of which facts tell that are about something else.
var elsewhere = []string{"RemediationRequest", "RemediationApprovalRequest", "EffectivenessAssessment"}

// name finds in which namespaces the resources are that facts tell of elsewhere.
func (w *world) name(facts []*fact.Fact) {
	for _, f := range facts {
		r := f.Event().Resource
		k := key{f.Event().Cluster, r.Kind, "", r.Name}
		if _, known := w.named[k]; !known && r.Namespace != "" && slices.Contains(elsewhere, r.Kind) {
			w.named[k] = key{k.cluster, r.Kind, r.Namespace, r.Name}
		}
	}
}

// relate has objects of an incident know of its issue, and of the plan that they are
// about.
func (w *world) relate(facts []*fact.Fact) {
	var created *fact.Fact
	issues := map[string]bool{}
	plans := map[key]*fact.Fact{}
	for _, f := range facts {
		e := f.Event()
		switch {
		case f.Is("IssueCreated") && f.Done():
			created, issues[e.Cluster+"/"+e.Resource.Namespace+"/"+e.Resource.Name] = f, true
		case f.Is("RemediationPlanned") && f.Done():
			plans[key{e.Cluster, "", e.Resource.Namespace, e.Resource.Name}] = f
		}
	}
	for k, o := range w.objects {
		if len(issues) == 1 && k.cluster == created.Event().Cluster {
			o.issue = created.Event().Resource.Name
			if k.kind == "PostMortem" {
				w.facts[k] = append([]*fact.Fact{created}, w.facts[k]...)
			}
		}
		if k.kind != "ApprovalRequest" {
			continue
		}
		for _, f := range w.facts[k] {
			if plan := plans[key{k.cluster, "", k.namespace, f.Detail("plan")}]; plan != nil {
				w.facts[k] = append([]*fact.Fact{plan}, w.facts[k]...)
				break
			}
		}
	}
}

// tell takes in a fact: for the resource that it is about, and for those that it tells of
// beside. Of resources that no state was kept of, the facts make one.
func (w *world) tell(f *fact.Fact, q *Question) {
	e := f.Event()
	about := key{e.Cluster, e.Resource.Kind, e.Resource.Namespace, e.Resource.Name}
	if known, ok := w.named[key{e.Cluster, e.Resource.Kind, "", e.Resource.Name}]; ok && about.namespace == "" {
		about = known
	}
	keys := []key{about}
	for _, kind := range elsewhere {
		if name := subject(f, kind); name != "" && kind != e.Resource.Kind {
			k := key{e.Cluster, kind, e.Resource.Namespace, name}
			if known, ok := w.named[key{e.Cluster, kind, "", name}]; ok {
				k = known
			}
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if w.objects[k] == nil && f.Done() && len(w.objects) < maxObjects && tells(k.kind, f) && k.name != "" && q.matches(event.Resource{Kind: k.kind, Namespace: k.namespace, Name: k.name}) {
			o := &Object{APIVersion: kinds[k.kind].apiVersion, Kind: k.kind, Namespace: k.namespace, Name: k.name, Cluster: k.cluster, written: map[string]time.Time{}}
			o.begin(f)
			w.add(k, o)
		}
		if w.objects[k] != nil {
			w.facts[k] = append(w.facts[k], f)
		}
	}
}

// dropped are members of metadata that an API server gives or refuses, and those that
// would act.
var dropped = []string{"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "finalizers", "ownerReferences"}

// Prefix is that of the annotations which say where an object comes from.
const Prefix = "reconstructed.graven.dev/"

// based returns an object as a state has it.
func based(st *snapshot.Snapshot, object map[string]any) *Object {
	o := &Object{Namespace: st.Resource.Namespace, Name: st.Resource.Name, Kind: st.Resource.Kind, Cluster: st.Cluster, at: st.At, base: true, Object: object, written: map[string]time.Time{}}
	o.APIVersion = cmp.Or(snapshot.Text(object, "apiVersion"), st.Resource.APIVersion)
	meta, _ := object["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	kept := map[string]string{"uid": snapshot.Text(meta, "uid"), "resource-version": st.Version, "created": snapshot.Text(meta, "creationTimestamp")}
	for _, name := range []string{"finalizers", "ownerReferences"} {
		if meta[name] != nil {
			o.Warnings = append(o.Warnings, "metadata."+name+" of the state is left out: applied, it would block or bring about deletion")
		}
	}
	for _, name := range dropped {
		delete(meta, name)
	}
	clean := map[string]any{"apiVersion": o.APIVersion, "kind": o.Kind, "metadata": meta}
	for name, v := range object {
		if name != "apiVersion" && name != "kind" && name != "metadata" {
			clean[name] = v
		}
	}
	o.Object = clean
	o.annotate(kept)
	part := st.Parts[len(st.Parts)-1]
	for _, name := range slices.Sorted(maps.Keys(clean)) {
		o.Fields = append(o.Fields, leaves(clean[name], name, part)...)
	}
	if st.Because == snapshot.Lost {
		o.Warnings = append(o.Warnings, "the state in entry "+fmt.Sprint(st.Index())+" was kept because the next one, of which there is none here, says less")
	}
	o.secrets()
	return o
}

// leaves lists the members of a state down to the second level of spec and status.
func leaves(v any, path string, from fact.Telling) (all []Field) {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 || strings.Count(path, ".") >= 2 {
		return []Field{{path, "snapshot", from.Index, from.Event.ID.String(), from.Event.EventType}}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if path == "metadata" && name == "annotations" && onlyOurs(m[name]) {
			continue
		}
		all = append(all, leaves(m[name], path+"."+name, from)...)
	}
	return all
}

func onlyOurs(v any) bool {
	m, _ := v.(map[string]any)
	for name := range m {
		if !strings.HasPrefix(name, Prefix) {
			return false
		}
	}
	return true
}

// annotate says where the object comes from, in its annotations.
func (o *Object) annotate(texts map[string]string) {
	for name, text := range texts {
		if text != "" {
			set(o.Object, []string{"metadata", "annotations", Prefix + name}, text)
		}
	}
}

// secrets makes the digests that stand in place of a Secret's values such as an API
// server takes.
func (o *Object) secrets() {
	data, _ := o.Object["data"].(map[string]any)
	if o.Kind != "Secret" || data == nil {
		return
	}
	for name, v := range data {
		data[name] = base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(v)))
	}
	o.Warnings = append(o.Warnings, "data: the values were never recorded; what stands there are their digests")
}

// begin makes an object of which no state was kept.
func (o *Object) begin(f *fact.Fact) {
	meta := map[string]any{"name": o.called("name", o.Name)}
	if o.Namespace != "" {
		meta["namespace"] = o.called("namespace", o.Namespace)
	}
	o.Object = map[string]any{"apiVersion": o.APIVersion, "kind": o.Kind, "metadata": meta}
	b := f.Best()
	o.Fields = append(o.Fields, Field{"metadata.name", "event", b.Index, b.Event.ID.String(), b.Event.EventType})
	if uid := b.Event.Resource.UID; uid != "" && b.Event.Resource.Kind == o.Kind {
		o.annotate(map[string]string{"uid": uid})
	}
}

// names are those that an API server takes, of the kinds that are known here.
var names = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// called returns a name, or one that an API server takes in its place: whoever tells of a
// resource may call it anything.
func (o *Object) called(what, name string) string {
	if names.MatchString(name) {
		return name
	}
	other := strings.Trim(strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-.")
	if other = strings.TrimRight(other[:min(len(other), 253)], "-."); other == "" {
		other = unknown
	}
	o.Errors = append(o.Errors, fmt.Sprintf("metadata.%s: no resource can be called %q", what, name))
	o.Warnings = append(o.Warnings, fmt.Sprintf("metadata.%s is %s in place of %q, as which no resource can be known", what, other, name))
	o.misnamed = true
	return other
}

// follow takes over what a fact says happened to the object after its state was kept.
func (o *Object) follow(f *fact.Fact, facts []*fact.Fact) {
	if !f.Done() {
		return
	}
	e := f.Event()
	if e.EventType == "ConfigChanged" && f.Detail("operation") == "deleted" {
		o.Deleted = event.FormatTime(f.At())
		return
	}
	if o.base && !f.At().After(o.at) {
		return // the state has it
	}
	k := kinds[o.Kind]
	if k == nil {
		return
	}
	for i := range k.rules {
		r := &k.rules[i]
		if !r.about(f) {
			continue
		}
		o.apply(r, f, facts)
	}
}

// apply takes over what a fact says of one member.
func (o *Object) apply(r *rule, f *fact.Fact, facts []*fact.Fact) {
	path := strings.Split(r.path, ".")
	for _, t := range f.Tellings { // the best known that says so
		if !slices.Contains(strings.Fields(r.types), t.Event.EventType) {
			continue
		}
		v := o.value(r, f, t, facts)
		if v == nil {
			continue
		}
		if m := o.member(r.path); m != nil && m.oneOf != nil {
			if text, ok := v.(string); !ok || !slices.Contains(m.oneOf, text) {
				o.Warnings = append(o.Warnings, fmt.Sprintf("%s: entry %d says %q, which the schema does not take", r.path, t.Index, fmt.Sprint(v)))
				continue
			}
		}
		at := f.At()
		if had, ok := o.written[r.path]; ok && had.After(at) {
			return
		}
		set(o.Object, path, v)
		o.written[r.path] = at
		o.Fields = slices.DeleteFunc(o.Fields, func(x Field) bool { return x.Path == r.path || strings.HasPrefix(x.Path, r.path+".") })
		o.Fields = append(o.Fields, Field{r.path, "event", t.Index, t.Event.ID.String(), t.Event.EventType})
		return
	}
}

// member returns a required member of the object's kind; nil if it is none.
func (o *Object) member(path string) *member {
	if k := kinds[o.Kind]; k != nil {
		if i := slices.IndexFunc(k.required, func(m member) bool { return m.path == path }); i >= 0 {
			return &k.required[i]
		}
	}
	return nil
}

// complete fills in what must be there, and says what is not known.
func (o *Object) complete(facts []*fact.Fact, broken []snapshot.Broken, q *Question) {
	last := o.at
	for _, at := range o.written {
		if at.After(last) {
			last = at
		}
	}
	o.AsOf = event.FormatTime(last)
	o.Valid = !o.misnamed
	known, all := 0, 0
	if k := kinds[o.Kind]; k != nil {
		for i := range k.required {
			m := &k.required[i]
			all++
			if has(o.Object, m.path) {
				known++
				continue
			}
			set(o.Object, strings.Split(m.path, "."), m.placeholder)
			o.Unknown = append(o.Unknown, Unknown{m.path, o.why(m.path, facts, broken, q), true})
			o.Errors = append(o.Errors, m.path+" is required and not known")
			o.Warnings = append(o.Warnings, fmt.Sprintf("%s is a placeholder (%v)", m.path, m.placeholder))
			o.Valid = false
		}
		for _, path := range append(slices.Clone(k.expected), o.due()...) {
			all++
			switch {
			case has(o.Object, path):
				known++
			case o.base: // the state had none
				all--
			default:
				o.Unknown = append(o.Unknown, Unknown{path, o.why(path, facts, broken, q), false})
				o.Warnings = append(o.Warnings, path+" is not known")
			}
		}
	}
	o.Completeness = 100
	if all > 0 {
		o.Completeness = 100 * known / all
	}
	if o.Deleted != "" {
		o.Warnings = append(o.Warnings, "it had been deleted at "+o.Deleted+": this is how it was before")
	}
	o.annotate(map[string]string{"as-of": o.AsOf})
	slices.SortStableFunc(o.Fields, func(a, b Field) int { return cmp.Compare(a.Path, b.Path) })
	for _, list := range []*[]string{&o.Errors, &o.Warnings} {
		if *list == nil {
			*list = []string{}
		}
	}
	if o.Unknown == nil {
		o.Unknown = []Unknown{}
	}
}

// due are the members that a remediation request has from some phase on.
func (o *Object) due() (paths []string) {
	if o.Kind != "RemediationRequest" {
		return nil
	}
	switch phase := snapshot.Text(o.Object, "status", "overallPhase"); phase {
	case "Executing", "Verifying", "Completed":
		paths = []string{"status.selectedWorkflowRef", "status.executionRef"}
		if phase == "Completed" {
			paths = append(paths, "status.outcome", "status.completedAt")
		}
	case "Failed", "TimedOut":
		paths = []string{"status.completedAt", "status.failureReason"}
	case "Blocked":
		paths = []string{"status.blockReason"}
	}
	return paths
}

// why says why a member is not known.
func (o *Object) why(path string, facts []*fact.Fact, broken []snapshot.Broken, q *Question) string {
	for _, r := range kinds[o.Kind].rules {
		if r.path != path && !strings.HasPrefix(r.path, path+".") {
			continue
		}
		for _, f := range facts {
			if r.about(f) && f.Erased() {
				return fmt.Sprintf("the content of entry %d, which may have said it, was erased", f.Best().Index)
			}
		}
	}
	for _, b := range broken {
		if b.Resource.Kind == o.Kind && b.Resource.Name == o.Name && b.Resource.Namespace == o.Namespace {
			return fmt.Sprintf("the state in entry %d, which would have it, cannot be read: %s", b.Index, b.Reason)
		}
	}
	if q.Erased != "" {
		return "no event that is left says it, and " + q.Erased
	}
	return "no event says it, and no state was kept"
}

// set sets a member, and what leads there.
func set(object map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next, ok := object[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			object[name] = next
		}
		object = next
	}
	object[path[len(path)-1]] = v
}

func has(object map[string]any, path string) bool {
	v := snapshot.At(object, strings.Split(path, ".")...)
	return v != nil && v != ""
}

// YAML returns objects as one document each, as kubectl takes them, with what is to be
// known of each in comments before it.
func YAML(objects []*Object) ([]byte, error) {
	var b bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "# %s\n", legible.Line(fmt.Sprintf("%s %s/%s as of %s, reconstructed from the audit trail: %d%% of what it should have is known", o.Kind, o.Namespace, o.Name, o.AsOf, o.Completeness)))
		for _, w := range o.Warnings {
			fmt.Fprintf(&b, "# %s\n", legible.Line(w))
		}
		text, err := paper.Encode(o.Object, "yaml")
		if err != nil {
			return nil, err
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}
