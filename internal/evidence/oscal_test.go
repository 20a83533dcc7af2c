package evidence

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/report"
)

// rules are those of OSCAL 1.1.2 for what is used of its models of assessment plans and
// results: members, which of them must be there, and the forms of their values.
const rules = `{
 "$defs": {
  "uuid": {"type": "string", "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[45][0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"},
  "token": {"type": "string", "pattern": "^(\\p{L}|_)(\\p{L}|\\p{N}|[.\\-_])*$"},
  "string": {"type": "string", "pattern": "^\\S(.*\\S)?$"},
  "time": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?(Z|(-((0[0-9]|1[0-2]):00|0[39]:30)|\\+((0[0-9]|1[0-4]):00|(0[34569]|10):30|(0[58]|12):45)))$"},
  "props": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["name", "value"],
   "properties": {"name": {"$ref": "#/$defs/token"}, "uuid": {"$ref": "#/$defs/uuid"}, "ns": {"type": "string", "pattern": "^[a-zA-Z][a-zA-Z0-9+\\-.]+:.+$"},
    "value": {"$ref": "#/$defs/string"}, "class": {"$ref": "#/$defs/token"}, "remarks": {"type": "string"}}}},
  "metadata": {"type": "object", "additionalProperties": false, "required": ["title", "last-modified", "version", "oscal-version"],
   "properties": {"title": {"type": "string"}, "published": {"$ref": "#/$defs/time"}, "last-modified": {"$ref": "#/$defs/time"}, "version": {"$ref": "#/$defs/string"}, "oscal-version": {"$ref": "#/$defs/string"},
    "roles": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["id", "title"], "properties": {"id": {"$ref": "#/$defs/token"}, "title": {"type": "string"}}}},
    "parties": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["uuid", "type"],
     "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "type": {"enum": ["person", "organization"]}, "name": {"$ref": "#/$defs/string"}}}},
    "responsible-parties": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["role-id", "party-uuids"],
     "properties": {"role-id": {"$ref": "#/$defs/token"}, "party-uuids": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/uuid"}}}}}}},
  "reviewed": {"type": "object", "additionalProperties": false, "required": ["control-selections"],
   "properties": {"description": {"type": "string"}, "control-selections": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false,
    "properties": {"description": {"type": "string"}, "include-controls": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["control-id"],
     "properties": {"control-id": {"$ref": "#/$defs/token"}}}}}}}}},
  "href": {"type": "string", "minLength": 1},
  "observation": {"type": "object", "additionalProperties": false, "required": ["uuid", "description", "methods", "collected"],
   "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "title": {"type": "string"}, "description": {"type": "string"}, "props": {"$ref": "#/$defs/props"}, "collected": {"$ref": "#/$defs/time"}, "remarks": {"type": "string"},
    "methods": {"type": "array", "minItems": 1, "items": {"enum": ["EXAMINE", "INTERVIEW", "TEST", "UNKNOWN"]}},
    "types": {"type": "array", "minItems": 1, "items": {"enum": ["ssp-statement-issue", "control-objective", "mitigation", "finding", "historic"]}},
    "relevant-evidence": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["description"],
     "properties": {"href": {"$ref": "#/$defs/href"}, "description": {"type": "string"}}}}}}
 },
 "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
 "properties": {
  "assessment-plan": {"type": "object", "additionalProperties": false, "required": ["uuid", "metadata", "import-ssp", "reviewed-controls"],
   "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "metadata": {"$ref": "#/$defs/metadata"}, "reviewed-controls": {"$ref": "#/$defs/reviewed"},
    "import-ssp": {"type": "object", "additionalProperties": false, "required": ["href"], "properties": {"href": {"$ref": "#/$defs/href"}, "remarks": {"type": "string"}}},
    "back-matter": {"type": "object", "additionalProperties": false, "properties": {"resources": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["uuid"],
     "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "title": {"type": "string"}, "description": {"type": "string"}}}}}}}},
  "assessment-results": {"type": "object", "additionalProperties": false, "required": ["uuid", "metadata", "import-ap", "results"],
   "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "metadata": {"$ref": "#/$defs/metadata"},
    "import-ap": {"type": "object", "additionalProperties": false, "required": ["href"], "properties": {"href": {"$ref": "#/$defs/href"}}},
    "results": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false, "required": ["uuid", "title", "description", "start", "reviewed-controls"],
     "properties": {"uuid": {"$ref": "#/$defs/uuid"}, "title": {"type": "string"}, "description": {"type": "string"}, "start": {"$ref": "#/$defs/time"}, "end": {"$ref": "#/$defs/time"}, "props": {"$ref": "#/$defs/props"},
      "reviewed-controls": {"$ref": "#/$defs/reviewed"}, "observations": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/observation"}}}}}}}
 }
}`

func TestWhatIsWrittenInOSCALIsOfItsForm(t *testing.T) {
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(rules))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("oscal.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("oscal.json")
	if err != nil {
		t.Fatal(err)
	}
	book, err := control.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	f, _ := book.Framework("nist-800-53")
	from := time.Date(2026, 3, 1, 0, 0, 0, 5e6, time.UTC)
	a := &control.Assessment{Framework: f}
	for name, check := range book.Checks {
		a.Verdicts = append(a.Verdicts, control.Verdict{Check: name, Title: check.Title, Asks: check.Asks, Result: "2 exceptions of 7", Unit: "days", N: 7, Exceptions: 2, Note: "two\nlines"})
	}
	of := evidence.Ledger{Origin: "example.org/ledger", Size: 8, Root: "cm9vdA=="}
	d := control.NewDocument(a, &report.Question{From: from, To: from.AddDate(0, 0, 7)}, report.Ledger{Origin: of.Origin, Size: of.Size, Root: of.Root})
	plan, results := oscal(d, of)
	ids := map[string]bool{}
	for _, doc := range []object{plan, results} {
		text, err := paper.Encode(doc, "json")
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(v); err != nil {
			t.Errorf("%v", err)
		}
	}
	again, _ := oscal(d, of)
	one, _ := json.Marshal(plan)
	two, _ := json.Marshal(again)
	if string(one) != string(two) {
		t.Error("the same question gives other documents")
	}
	for _, o := range results["assessment-results"].(object)["results"].([]object)[0]["observations"].([]object) {
		if id := o["uuid"].(string); ids[id] {
			t.Errorf("%s stands twice", id)
		} else {
			ids[id] = true
		}
	}
	if got := controlID("AU-9(3)"); got != "au-9.3" {
		t.Errorf("AU-9(3) is %s", got)
	}
}
