package importer_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/importer"
	"github.com/graven-audit/graven/internal/known"
)

// A sink is a server that takes batches, and answers as it is told before.
type sink struct {
	ids   []string
	busy  int // answers of 503 to give first
	asked int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	if s.busy > 0 {
		s.busy--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var events []struct{ ID, EventType string }
	if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	items := []map[string]any{}
	for i, e := range events {
		if e.EventType == "" {
			items = append(items, map[string]any{"error": map[string]any{"title": "no type", "status": 400}})
			continue
		}
		items = append(items, map[string]any{"id": e.ID, "position": i, "duplicate": slices.Contains(s.ids, e.ID)})
		s.ids = append(s.ids, e.ID)
	}
	json.NewEncoder(w).Encode(map[string]any{"items": items})
}

// run imports an input and returns what came of it, and what was rejected where.
func (s *sink) run(t *testing.T, format, in string) (importer.Counts, []string, error) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := client.New(client.Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	var rejected []string
	im := importer.Importer{
		Sender:   &importer.Sender{Client: c, Seen: known.NewWatch(), Retrying: func(error) {}},
		Rejected: func(where string, err error) { rejected = append(rejected, where+": "+err.Error()) },
		Progress: func(int64) {},
	}
	counts, err := im.Run(t.Context(), format, strings.NewReader(in))
	return counts, rejected, err
}

const (
	a = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:29:00Z","actor":{"type":"user","name":"j"},"resource":{"kind":"Issue"},"details":{"n":1}}`
	b = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:29:00Z","actor":{"type":"user","name":"j"},"resource":{"kind":"Issue"},"details":{"n":2}}`
)

func TestDerivedIdsAreTheSameEachTime(t *testing.T) {
	ids := func(lines ...string) []string {
		var s sink
		if _, _, err := s.run(t, "native", strings.Join(lines, "\n")); err != nil {
			t.Fatal(err)
		}
		return s.ids
	}
	once := ids(a, a, b)
	if once[0] == once[1] || once[0] == once[2] || once[1] == once[2] {
		t.Errorf("two events share an id: %v", once)
	}
	if again := ids(b, a, a); !slices.Equal(again, []string{once[2], once[0], once[1]}) {
		t.Errorf("%v, in another order %v", once, again)
	}
}

func TestABusyServerIsAskedAgainAndNothingCountsTwice(t *testing.T) {
	s := sink{busy: 2}
	counts, _, err := s.run(t, "native", a+"\n{}\n"+b)
	if err != nil || counts.Recorded != 2 || counts.Rejected != 1 || s.asked != 3 {
		t.Errorf("%+v, asked %d times, %v", counts, s.asked, err)
	}
	if counts, _, err = s.run(t, "native", a); err != nil || counts.String() != "0 events recorded, 1 recorded before" {
		t.Errorf("%s, %v", counts, err)
	}
}

func TestWhatIsNotReadIsNamedByItsPlace(t *testing.T) {
	var s sink
	_, rejected, err := s.run(t, "native", a+"\n"+`{"eventType":"IssueCreated","actor":[]}`)
	if err != nil || len(rejected) != 1 || !strings.HasPrefix(rejected[0], "document 2: ") {
		t.Errorf("%q, %v", rejected, err)
	}
	if _, _, err := s.run(t, "parquet", a); err == nil || !strings.Contains(err.Error(), "kube-audit") {
		t.Error(err)
	}
	if _, _, err := s.run(t, "native", "{"); err == nil || !strings.Contains(err.Error(), io.ErrUnexpectedEOF.Error()) {
		t.Error(err)
	}
}
