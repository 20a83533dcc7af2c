package intake_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/intake"
)

// hidden stands in the tests for everything that must not be kept.
const hidden = "aHVudGVyMg"

func TestCredentialsLeaveAsNamesOnly(t *testing.T) {
	secrets := doc{"resource": "secrets", "namespace": "prod", "name": "s", "apiVersion": "v1"}
	deployments := doc{"resource": "deployments", "apiGroup": "apps", "apiVersion": "v1", "name": "d"}
	account := doc{"resource": "serviceaccounts", "subresource": "token", "apiVersion": "v1", "name": "a"}
	raw := func(s string) json.RawMessage { return json.RawMessage(strings.ReplaceAll(s, "HIDDEN", hidden)) }
	for _, tt := range []struct {
		name     string
		ref      doc
		given    doc
		member   string
		want     string
		redacted string // space-separated
	}{
		{"a secret", secrets, doc{"requestObject": raw(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"type":"Opaque","data":{"password":"HIDDEN","user":"HIDDEN"},"stringData":{"x":"HIDDEN"}}`)},
			"requestObject", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"type":"Opaque","data":{"password":"(removed)","user":"(removed)"},"stringData":{"x":"(removed)"}}`,
			"requestObject.data.password requestObject.data.user requestObject.stringData.x"},
		{"a list of secrets, whose items do not say their kind", secrets, doc{"verb": "list", "responseObject": raw(`{"kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"k":"HIDDEN"}},{"data":null}]}`)},
			"responseObject", `{"kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"k":"(removed)"}},{"data":null}]}`, "responseObject.items[0].data.k"},
		{"a secret in a list of anything", doc{"resource": "widgets", "apiGroup": "example.com"}, doc{"requestObject": raw(`{"kind":"List","items":[{"kind":"ConfigMap","data":{"k":"shown"}},{"kind":"Secret","data":{"k":"HIDDEN"}}]}`)},
			"requestObject", `{"kind":"List","items":[{"kind":"ConfigMap","data":{"k":"shown"}},{"kind":"Secret","data":{"k":"(removed)"}}]}`, "requestObject.items[1].data.k"},
		{"a secret in a table", secrets, doc{"responseObject": raw(`{"kind":"Table","rows":[{"cells":["s",1],"object":{"kind":"Secret","data":{"k":"HIDDEN"}}}]}`)},
			"responseObject", `{"kind":"Table","rows":[{"cells":["s",1],"object":{"kind":"Secret","data":{"k":"(removed)"}}}]}`, "responseObject.rows[0].object.data.k"},
		{"a secret within another object", deployments, doc{"requestObject": raw(`{"spec":{"manifests":[{"kind":"Secret","data":{"k":"HIDDEN"}}]}}`)},
			"requestObject", `{"spec":{"manifests":[{"kind":"Secret","data":{"k":"(removed)"}}]}}`, "requestObject.spec.manifests[0].data.k"},
		{"a patch of a secret", secrets, doc{"verb": "patch", "requestObject": raw(`{"data":{"k":"HIDDEN","gone":null},"metadata":{"labels":{"a":"b"}}}`)},
			"requestObject", `{"data":{"k":"(removed)","gone":null},"metadata":{"labels":{"a":"b"}}}`, "requestObject.data.k"},
		{"a patch of a secret that claims to be of something else", secrets, doc{"verb": "patch", "requestObject": raw(`{"kind":"ConfigMap","Data":{"k":"HIDDEN"},"stringdata":"HIDDEN"}`)},
			"requestObject", `{"kind":"ConfigMap","Data":{"k":"(removed)"},"stringdata":"(removed)"}`, "requestObject.Data.k requestObject.stringdata"},
		{"a JSON Patch of a secret", secrets, doc{"verb": "patch", "requestObject": raw(`[{"op":"replace","path":"/data/a~1b","value":"HIDDEN"},{"op":"add","path":"/stringData","value":{"k":"HIDDEN"}},
				{"op":"replace","path":"","value":{"data":{"k":"HIDDEN"}}},{"op":"test","path":"/data/k","value":"HIDDEN","was":"HIDDEN"},{"op":"copy","from":"/data/k","path":"/data/l"},
				{"op":"add","path":"/metadata/labels/a","value":"b"},"HIDDEN",{"value":{"data":{"k":"HIDDEN"}}}]`)},
			"requestObject", `[{"op":"replace","path":"/data/a~1b","value":"(removed)"},{"op":"add","path":"/stringData","value":{"k":"(removed)"}},
				{"op":"replace","path":"","value":{"data":{"k":"(removed)"}}},{"op":"test","path":"/data/k","value":"(removed)","was":"(removed)"},{"op":"copy","from":"/data/k","path":"/data/l"},
				{"op":"add","path":"/metadata/labels/a","value":"b"},"(removed)",{"value":{"data":{"k":"(removed)"}}}]`,
			"requestObject[0].value requestObject[1].value.k requestObject[2].value.data.k requestObject[3].value requestObject[3].was requestObject[6] requestObject[7].value.data.k"},
		{"a patch of a secret that misses its member", secrets, doc{"verb": "patch", "requestObject": raw(`{"datas":{"k":"HIDDEN"},"token":"HIDDEN","items":{"k":"HIDDEN"}}`)},
			"requestObject", `{"datas":{"k":"(removed)"},"token":"(removed)","items":{"k":"(removed)"}}`, "requestObject.datas.k requestObject.items.k requestObject.token"},
		{"a JSON Patch of a secret that misses its member", secrets, doc{"verb": "patch", "requestObject": raw(`[{"op":"add","Path":"/data/k","value":"HIDDEN"},{"op":"add","path":" /data/k","value":["HIDDEN"]},{"op":"add","path":"/items/0/data/k","value":"HIDDEN"}]`)},
			"requestObject", `[{"op":"add","Path":"(removed)","value":"(removed)"},{"op":"add","path":" /data/k","value":"(removed)"},{"op":"add","path":"/items/0/data/k","value":"(removed)"}]`,
			"requestObject[0].Path requestObject[0].value requestObject[1].value requestObject[2].value"},
		{"the deletion of a secret, and its answer", secrets, doc{"requestObject": raw(`{"kind":"DeleteOptions","propagationPolicy":"Background"}`), "responseObject": raw(`{"kind":"Status","status":"Success","details":{"name":"s"}}`)},
			"responseObject", `{"kind":"Status","status":"Success","details":{"name":"s"}}`, ""},
		{"a patch in a form of its own", secrets, doc{"verb": "patch", "requestObject": "data:\n  k: " + hidden}, "requestObject", `"(removed)"`, "requestObject"},
		{"the copy that kubectl leaves", secrets, doc{"verb": "patch", "requestObject": raw(`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"k\":\"HIDDEN\"}}","note":"shown"}}}`)},
			"requestObject", `{"metadata":{"annotations":{"note":"shown"}}}`, "requestObject.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration"},
		{"the copy that kubectl leaves, by JSON Patch", secrets, doc{"verb": "patch", "requestObject": raw(`[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"HIDDEN"}]`)},
			"requestObject", `[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"}]`, "requestObject[0].value"},
		{"managed fields", deployments, doc{"responseObject": raw(`{"metadata":{"name":"d","managedFields":[{"HIDDEN":1}]},"spec":{"managedFields":"shown"}}`)},
			"responseObject", `{"metadata":{"name":"d"},"spec":{"managedFields":"shown"}}`, "responseObject.metadata.managedFields"},
		{"a token that was issued", account, doc{"verb": "create", "responseObject": raw(`{"kind":"TokenRequest","spec":{"audiences":["x"]},"status":{"token":"HIDDEN","expirationTimestamp":"t"}}`)},
			"responseObject", `{"kind":"TokenRequest","spec":{"audiences":["x"]},"status":{"token":"(removed)","expirationTimestamp":"t"}}`, "responseObject.status.token"},
		{"a token that was issued, without its kind", account, doc{"verb": "create", "responseObject": raw(`{"status":{"token":"HIDDEN"}}`)}, "responseObject", `{"status":{"token":"(removed)"}}`, "responseObject.status.token"},
		{"a token under review", doc{"resource": "tokenreviews", "apiGroup": "authentication.k8s.io"}, doc{"requestObject": raw(`{"kind":"TokenReview","spec":{"token":"HIDDEN","audiences":["x"]}}`)},
			"requestObject", `{"kind":"TokenReview","spec":{"token":"(removed)","audiences":["x"]}}`, "requestObject.spec.token"},
		{"the environment of every kind of container", deployments, doc{"requestObject": raw(`{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"HIDDEN"},{"name":"B","valueFrom":{"secretKeyRef":{"key":"k"}}},{"name":"C","value":""}]}],
				"initContainers":[{"env":[{"name":"A","value":"HIDDEN"}]}],"ephemeralContainers":[{"env":[{"name":"A","value":"HIDDEN"}]}]}}}}`)},
			"requestObject", `{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"(removed)"},{"name":"B","valueFrom":{"secretKeyRef":"{\"key\":\"k\"}"}},{"name":"C","value":"(removed)"}]}],
				"initContainers":[{"env":[{"name":"A","value":"(removed)"}]}],"ephemeralContainers":[{"env":[{"name":"A","value":"(removed)"}]}]}}}}`,
			"requestObject.spec.template.spec.containers[0].env[0].value requestObject.spec.template.spec.containers[0].env[2].value " +
				"requestObject.spec.template.spec.ephemeralContainers[0].env[0].value requestObject.spec.template.spec.initContainers[0].env[0].value"},
		{"the environment in other forms", deployments, doc{"requestObject": raw(`{"a":{"env":{"A":"HIDDEN","metadata":"HIDDEN","B":{"value":"HIDDEN"},"C":{"valueFrom":{"x":1}}}},"b":{"env":["A=HIDDEN","prod"]},"labels":{"env":"prod"}}`)},
			"requestObject", `{"a":{"env":{"A":"(removed)","metadata":"(removed)","B":{"value":"(removed)"},"C":{"valueFrom":{"x":1}}}},"b":{"env":["A=(removed)","prod"]},"labels":{"env":"prod"}}`,
			"requestObject.a.env.A requestObject.a.env.B.value requestObject.a.env.metadata requestObject.b.env[0]"},
		{"the environment by JSON Patch", deployments, doc{"verb": "patch", "requestObject": raw(`[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"A","value":"HIDDEN"}},
				{"op":"replace","path":"/spec/template/spec/containers/0/env/0/value","value":"HIDDEN"},{"op":"add","path":"/spec/template/spec/containers/0/env","value":[{"name":"A","value":"HIDDEN"}]},
				{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"shown"}]`)},
			"requestObject", `[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"A","value":"(removed)"}},
				{"op":"replace","path":"/spec/template/spec/containers/0/env/0/value","value":"(removed)"},{"op":"add","path":"/spec/template/spec/containers/0/env","value":[{"name":"A","value":"(removed)"}]},
				{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"shown"}]`,
			"requestObject[0].value.value requestObject[1].value requestObject[2].value[0].value"},
		{"credentials in the URI", nil, doc{"requestURI": "/x?a=1&token=" + hidden + "&access%5Ftoken=" + hidden + ";Password=" + hidden + "&continue=shown"},
			"requestURI", `"/x?a=1&token=(removed)&access%5Ftoken=(removed);Password=(removed)&continue=shown"`, "requestURI.Password requestURI.access%5Ftoken requestURI.token"},
		{"a URI without credentials stays as it was", nil, doc{"requestURI": "/x?a=%7e;b&tokens=1"}, "requestURI", `"/x?a=%7e;b&tokens=1"`, ""},
		{"what a webhook did to a secret", secrets, doc{"annotations": doc{"note": "shown", "patch.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"c","patch":[{"op":"add","path":"/data","value":{"k":"` + hidden + `"}}],"patchType":"JSONPatch"}`}},
			"annotations", `{"note":"shown","patch.webhook.admission.k8s.io/round_0_index_0":"{\"configuration\":\"c\",\"patch\":[{\"op\":\"add\",\"path\":\"/data\",\"value\":{\"k\":\"(removed)\"}}],\"patchType\":\"JSONPatch\"}"}`,
			"annotations.patch.webhook.admission.k8s.io/round_0_index_0.patch[0].value.k"},
		{"what a webhook did, in a form of its own", deployments, doc{"annotations": doc{"patch.webhook.admission.k8s.io/round_0_index_0": hidden}},
			"annotations", `{"patch.webhook.admission.k8s.io/round_0_index_0":"(removed)"}`, "annotations.patch.webhook.admission.k8s.io/round_0_index_0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			given := doc{"objectRef": tt.ref}
			for name, v := range tt.given {
				given[name] = v
			}
			e := kube(t, with(t, request, given))
			if text := string(e.AppendJSON(nil)); strings.Contains(text, hidden) {
				t.Errorf("kept: %s", text)
			}
			details := object(t, e.Details)
			var want any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			same(t, tt.member, details[tt.member], want)
			var redacted any
			if tt.redacted != "" {
				redacted = strings.Fields(tt.redacted)
			}
			same(t, "redacted", details["redacted"], redacted)
		})
	}
}

func TestTheListOfWhatWasRedactedIsBounded(t *testing.T) {
	data := map[string]string{}
	for i := range 500 {
		data[fmt.Sprintf("k%03d", i)] = hidden
	}
	e := kube(t, with(t, request, doc{"objectRef": doc{"resource": "secrets"}, "requestObject": doc{"data": data}}))
	list := object(t, e.Details)["redacted"].([]any)
	if len(list) != 101 || list[0] != "requestObject.data.k000" || list[100] != "…" {
		t.Errorf("%d paths, from %v to %v", len(list), list[0], list[len(list)-1])
	}
}

// secretValues returns what the Secrets in a document hold.
func secretValues(v any) (found []string) {
	switch v := v.(type) {
	case map[string]any:
		if kind, _ := v["kind"].(string); kind == "Secret" {
			for _, part := range []string{"data", "stringData"} {
				values, _ := v[part].(map[string]any)
				for _, value := range values {
					found = append(found, value.(string))
				}
			}
		}
		for _, member := range v {
			found = append(found, secretValues(member)...)
		}
	case []any:
		for _, element := range v {
			found = append(found, secretValues(element)...)
		}
	}
	return found
}

func TestNoSecretOfARealAuditLogIsKept(t *testing.T) {
	lines := sample(t)
	// The sample's policy logs secrets without their content; one that does not
	// must lose nothing more.
	careless := with(t, request, doc{"objectRef": doc{"resource": "secrets", "apiVersion": "v1"}, "requestObject": doc{"kind": "Secret", "data": doc{"token": hidden}}})
	lines = append(lines, careless)
	var out []byte
	var secrets []string
	for _, line := range lines {
		out = kube(t, line).AppendJSON(out)
		secrets = append(secrets, secretValues(object(t, line))...)
	}
	if len(secrets) == 0 {
		t.Fatal("no secret was looked for")
	}
	for _, s := range secrets {
		if strings.Contains(string(out), s) {
			t.Errorf("kept: %s", s)
		}
	}
}

// FuzzRedaction puts a secret into an object of any shape that is a Secret.
func FuzzRedaction(f *testing.F) {
	f.Add([]byte(`{"data":{"k":"x"}}`), "data", "k", true)
	f.Add([]byte(`[{"op":"add"}]`), "stringData", "metadata", false)
	f.Add([]byte(`{"kind":"List","items":[]}`), "data", "kubectl.kubernetes.io/last-applied-configuration", true)
	f.Fuzz(func(t *testing.T, object []byte, part, key string, patch bool) {
		if !strings.EqualFold(part, "data") && !strings.EqualFold(part, "stringData") {
			t.Skip()
		}
		var body any
		if json.Unmarshal(object, &body) != nil {
			t.Skip()
		}
		m, isMap := body.(map[string]any)
		switch {
		case isMap:
			m[part] = map[string]any{key: hidden, "nested": []any{map[string]any{key: hidden}}}
		case patch:
			key = strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			body = []any{map[string]any{"op": "add", "path": "/" + part + "/" + key, "value": hidden}, body}
		default:
			body = []any{map[string]any{"op": "add", "path": "", "value": map[string]any{part: map[string]any{key: hidden}}}, body}
		}
		given, err := json.Marshal(map[string]any{"auditID": "a", "stage": "s", "verb": "patch", "stageTimestamp": "2026-11-21T10:00:00Z",
			"objectRef": map[string]any{"resource": "secrets"}, "requestObject": body})
		if err != nil || strings.Count(string(given), hidden) > 2 {
			t.Skip()
		}
		e, err := intake.KubeAudit(given)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(e.Details), hidden) {
			t.Fatalf("kept %s of %s", e.Details, given)
		}
		e.Complete(now)
		if err := e.Validate(now); err != nil {
			t.Fatal(err)
		}
	})
}
