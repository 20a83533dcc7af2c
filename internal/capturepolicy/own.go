package capturepolicy

import (
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/api/equality"

	v1alpha1 "github.com/graven-audit/graven/api/graven/v1alpha1"
	"github.com/graven-audit/graven/internal/capture"
)

// ownName is that of the operator's own policies, which no CapturePolicy can have:
// whoever changes what is captured is recorded, whatever they change.
const ownName = "CapturePolicies"

// own returns the operator's own policies.
func own() ([]*capture.Program, error) {
	policies := []capture.Policy{{Name: ownName, At: capture.Watch}, {Name: ownName, At: capture.Admission}}
	programs := make([]*capture.Program, len(policies))
	for i := range policies {
		p := &policies[i]
		p.Match = capture.Match{Resources: []capture.Resource{{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "capturepolicies"}},
			Operations: []string{"CREATE", "UPDATE", "DELETE"}}
		p.Variables = []capture.Variable{
			{Name: "it", Expression: "object == null ? oldObject : object"},
			{Name: "version", Expression: "string(int(it.?metadata.?generation.orValue(0)))"},
		}
		// What is being deleted has another generation for that alone.
		p.When = "operation != 'UPDATE' || object.?metadata.?generation != oldObject.?metadata.?generation && object.?metadata.?deletionTimestamp == oldObject.?metadata.?deletionTimestamp"
		fields := map[string]string{
			"eventType": "'GuardChanged'",
			"fact":      "it.metadata.uid + '/GuardChanged/' + operation + (operation == 'DELETE' ? '' : ' ' + version)",
			"details":   "{'operation': operation.lowerAscii(), 'generation': version}",
		}
		if p.At == capture.Watch {
			fields["timestamp"] = "operation == 'CREATE' ? optional.of(it.metadata.creationTimestamp) : optional.none()"
			fields["actor.type"], fields["actor.name"] = "'user'", "'unknown'"
		}
		p.Records = []capture.Record{{Name: "changed", Event: fields}}
		program, err := capture.Compile(*p)
		if err != nil {
			return nil, err
		}
		programs[i] = program
	}
	return programs, nil
}

// checks says what is wrong with a CapturePolicy that somebody wants to have. What only
// touches its metadata passes, so that one that was taken before can go.
func checks(object, old []byte) error {
	var now, was v1alpha1.CapturePolicy
	if err := json.Unmarshal(object, &now); err != nil {
		return err
	}
	if len(old) > 0 && json.Unmarshal(old, &was) == nil && equality.Semantic.DeepEqual(now.Spec, was.Spec) {
		return nil
	}
	if _, err := capture.Compile(policyOf(&now)); err != nil {
		return errors.New(inSpec(err))
	}
	return nil
}
