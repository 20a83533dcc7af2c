package evidence

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/internal/control"
)

const oscalVersion = "1.1.2"

// object is a JSON object; maps are written with their members sorted.
type object = map[string]any

// space is the namespace of our UUIDs: that of the product's own name.
var space = [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8} // RFC 4122: URLs

// uuid is the UUIDv5 of a name: the same for the same ledger and question.
func uuid(parts ...string) string {
	h := sha1.New()
	h.Write(space[:])
	h.Write([]byte("https://graven.dev/evidence/" + strings.Join(parts, "/")))
	id := h.Sum(nil)[:16]
	id[6], id[8] = id[6]&0x0f|0x50, id[8]&0x3f|0x80
	text := hex.EncodeToString(id)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

var enhancement = regexp.MustCompile(`\((\d+)\)`)

// controlID is a control's id as OSCAL's catalogue of 800-53 writes it, such as au-9.3.
func controlID(id string) string {
	return strings.ToLower(enhancement.ReplaceAllString(id, ".$1"))
}

// line returns a text on one line, as the values of props must be.
func line(text string) string {
	if text = strings.Join(strings.Fields(text), " "); text == "" {
		return "none"
	}
	return text
}

// oscal returns what the trail shows as an assessment plan and assessment results. They
// have observations and no findings: of those OSCAL asks whether a control is satisfied.
func oscal(d *control.Document, of evidence.Ledger) (plan, results object) {
	base := []string{of.Root, d.Framework, event.FormatTime(d.Window.From), event.FormatTime(d.Window.To), d.Namespace}
	id := func(parts ...string) string { return uuid(append(append([]string{}, base...), parts...)...) }
	// The end of the period, and not the time of the making: the same question gives
	// the same document.
	at := event.FormatTime(d.Window.To)
	party := id("party")
	metadata := func(title string) object {
		return object{"title": title, "last-modified": at, "version": fmt.Sprintf("%d", of.Size), "oscal-version": oscalVersion,
			"roles":               []object{{"id": "assessor", "title": "Computed by"}},
			"parties":             []object{{"uuid": party, "type": "organization", "name": "Graven, the system of record " + of.Origin}},
			"responsible-parties": []object{{"role-id": "assessor", "party-uuids": []string{party}}}}
	}
	prop := func(name, value string) object {
		return object{"name": name, "ns": "https://graven.dev/ns/oscal", "value": line(value)}
	}
	var ids []object
	for _, c := range d.Controls {
		ids = append(ids, object{"control-id": controlID(c.ID)})
	}
	reviewed := object{"control-selections": []object{{"description": "The controls of which the trail shows something.", "include-controls": ids}}}
	system := id("no system security plan")
	plan = object{"assessment-plan": object{"uuid": id("plan"), "metadata": metadata("Assessment plan, generated: " + d.Title),
		"import-ssp":        object{"href": "#" + system, "remarks": "No system security plan was given to Graven."},
		"reviewed-controls": reviewed,
		"back-matter":       object{"resources": []object{{"uuid": system, "title": "No system security plan", "description": "Graven knows of none. Put a reference to yours here."}}}}}
	var observations []object
	for _, v := range d.Checks {
		var controls []string
		for _, c := range d.Controls {
			for _, r := range c.Results {
				if r.Check == v.Check {
					controls = append(controls, controlID(c.ID))
				}
			}
		}
		o := object{"uuid": id("observation", v.Check), "title": v.Title, "description": v.Asks, "methods": []string{"TEST"}, "types": []string{"control-objective"},
			"collected": at,
			"props": []object{prop("check", v.Check), prop("result", v.Result), prop("unit", v.Unit), prop("instances", fmt.Sprint(v.N)),
				prop("exceptions", fmt.Sprint(v.Exceptions)), prop("unknown", fmt.Sprint(v.Unknown)), prop("controls", strings.Join(controls, " "))},
			"relevant-evidence": []object{{"href": evidence.PopulationFile, "description": "Every instance that was judged, with its result."},
				{"href": evidence.EventsFile, "description": "The events, each with its inclusion proof."}}}
		if v.Note != "" {
			o["remarks"] = v.Note
		}
		observations = append(observations, o)
	}
	results = object{"assessment-results": object{"uuid": id("results"), "metadata": metadata("Assessment results: " + d.Title),
		"import-ap": object{"href": "assessment-plan.json"},
		"results": []object{{"uuid": id("result"), "title": "What the trail shows", "description": "Checks over the ledger " + of.Origin + ", of which each result is an observation. Whether a control is satisfied is for the assessor to say, so that there are no findings.",
			"start": event.FormatTime(d.Window.From), "end": at, "reviewed-controls": reviewed, "observations": observations,
			"props": []object{prop("ledger-size", fmt.Sprint(of.Size)), prop("ledger-root", of.Root)}}}}}
	return plan, results
}
