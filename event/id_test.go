package event_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

func TestAMintedIdCarriesItsTime(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
	id := event.NewID(at)
	got, ok := id.Time()
	if !ok || !got.Equal(at.Truncate(time.Millisecond)) || got.Location() != time.UTC {
		t.Errorf("%s: %s, %v", id, got, ok)
	}
	if s := id.String(); s[14] != '7' || strings.IndexByte("89ab", s[19]) < 0 {
		t.Errorf("%s is not a UUIDv7", s)
	}
	if event.NewID(at) == id {
		t.Error("two ids of one millisecond are the same")
	}
	later := event.NewID(at.Add(time.Millisecond))
	if bytes.Compare(id[:], later[:]) >= 0 {
		t.Errorf("%s does not sort before %s", id, later)
	}
}

func TestOnlyAUUIDv7HasATime(t *testing.T) {
	for _, s := range []string{
		"3f1c1a52-6e8b-4c8e-9a77-0d2f5f1b9c10", // version 4
		"3f1c1a52-6e8b-7c8e-0a77-0d2f5f1b9c10", // another variant
		event.DeriveID("a").String(),
	} {
		id, err := event.ParseID(s)
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := id.Time(); ok {
			t.Errorf("%s has the time %s", s, at)
		}
	}
	if _, ok := (event.ID{}).Time(); ok {
		t.Error("no id has a time")
	}
}

func TestReservedIdsAreKnown(t *testing.T) {
	id := event.DeriveID("a").Reserve()
	if s := id.String(); !id.Reserved() || !strings.HasPrefix(s, "6772766e-") || s[14] != '8' || id == event.DeriveID("b").Reserve() || id != event.DeriveID("a").Reserve() {
		t.Errorf("%s", s)
	}
	for _, s := range []string{event.DeriveID("a").String(), "6772766e-7a3c-7000-8000-000000000001", "6772766e-7a3c-8000-4000-000000000001", "6772766f-7a3c-8000-8000-000000000001"} {
		if id, err := event.ParseID(s); err != nil || id.Reserved() {
			t.Errorf("%s counts as reserved (%v)", s, err)
		}
	}
}

func TestIdsAreReadInEitherCase(t *testing.T) {
	for _, s := range []string{"019310a2-7a3c-7000-8000-000000000001", "019310A2-7A3C-7000-8000-00000000000F"} {
		id, err := event.ParseID(s)
		if err != nil || id.String() != strings.ToLower(s) {
			t.Errorf("%s is read as %s (%v)", s, id, err)
		}
	}
	for _, s := range []string{"", "0", "019310a27a3c70008000000000000001", "{019310a2-7a3c-7000-8000-000000000001}", "019310a2-7a3c-7000-8000-00000000000x",
		"019310a2-7a3c-7000-8000-0000000000011", "019310a2_7a3c-7000-8000-000000000001", "urn:uuid:019310a2-7a3c-7000-8000-00000", strings.Repeat("-", 36)} {
		if id, err := event.ParseID(s); err == nil || !strings.HasPrefix(err.Error(), "not a UUID: ") {
			t.Errorf("%q is read as %s (%v)", s, id, err)
		}
	}
}

func TestTheZeroIdStandsForNone(t *testing.T) {
	id, err := event.ParseID("00000000-0000-0000-0000-000000000000")
	if err != nil || !id.IsZero() || id.String() != "" {
		t.Errorf("got %q, %v", id, err)
	}
}

// Events that were derived before must be recognised as duplicates for ever.
func TestDerivedIdsAreThoseOfOld(t *testing.T) {
	for _, tt := range []struct {
		want  string
		parts []string
	}{
		{"e3b0c442-98fc-8c14-9afb-f4c8996fb924", nil},
		{"3c9d5910-45bc-8876-b9d0-399bbfb05c6a", []string{"a", "b"}},
		{"9caccc24-b5d7-806c-a1c0-277b6530d666", []string{"ab"}},
		{"5275cd81-a7ab-85c7-a19c-be049231f08a", []string{"ab", ""}},
		{"c3917df2-3321-862b-9a3d-5b18972dfd3f", []string{"kube-audit", "383eb4a1-c445-4c42-9dbe-2c5f44c39a18", "ResponseStarted"}},
	} {
		if got := event.DeriveID(tt.parts...).String(); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.parts, got, tt.want)
		}
	}
}

func TestANameIsThatOfItsId(t *testing.T) {
	id, err := event.ParseID("019310a2-7a3c-7000-8000-000000000001")
	if err != nil {
		t.Fatal(err)
	}
	name := func(id event.ID, at time.Time) string {
		e := &event.Event{ID: id, EventType: "x", Timestamp: at}
		e.Complete(now)
		return e.Name
	}
	at := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)
	if got := name(id, at); got != "audit-1773930600-wdg9c5" {
		t.Errorf("got %s", got)
	}
	if name(id, at) == name(event.DeriveID("other"), at) {
		t.Error("two ids share a name")
	}
	if got := name(id, at.Add(time.Second)); !strings.HasPrefix(got, "audit-1773930601-") {
		t.Errorf("got %s", got)
	}
}
