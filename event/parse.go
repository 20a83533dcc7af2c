package event

import (
	"fmt"
	"time"

	"github.com/graven-audit/graven/internal/jcs"
)

// Parse reads one event in the native form, as callers send it. It refuses
// unknown and repeated members and those that only a server sets; of the
// latter, "ledger" gives an error that wraps [ErrReserved]. Nothing is
// completed or validated yet.
func Parse(data []byte) (*Event, error) { return parse(data, false) }

// ParseServed reads one event in the native form, as servers send it: what
// the server set is kept, and members that are not the event's are passed over.
func ParseServed(data []byte) (*Event, error) { return parse(data, true) }

func parse(data []byte, served bool) (*Event, error) {
	p := parser{s: jcs.NewScanner(data), served: served}
	if err := p.s.Object(p.member); err != nil {
		return nil, fieldError(err)
	}
	if err := p.s.End(); err != nil {
		return nil, fieldError(err)
	}
	return &p.e, nil
}

// A parser reads an event's members. The same members, with others beside
// them, make up an entry.
type parser struct {
	s      *jcs.Scanner
	e      Event
	served bool
	entry  bool
	digest Digests
	seen   uint64
}

func (p *parser) member(name []byte) error {
	switch string(name) {
	case "id":
		return p.once(0, p.id(&p.e.ID))
	case "name":
		return p.once(1, p.str(&p.e.Name))
	case "eventType":
		return p.once(2, p.str(&p.e.EventType))
	case "timestamp":
		return p.once(3, p.time(&p.e.Timestamp))
	case "actor":
		return p.once(4, p.actor)
	case "resource":
		return p.once(5, p.resource)
	case "category":
		return p.once(6, p.str(&p.e.Category))
	case "action":
		return p.once(7, p.str(&p.e.Action))
	case "outcome":
		return p.once(8, p.str(&p.e.Outcome))
	case "severity":
		return p.once(9, p.str(&p.e.Severity))
	case "correlationID", "correlationId":
		return p.once(10, p.str(&p.e.CorrelationID))
	case "parentID", "parentId":
		return p.once(11, p.id(&p.e.ParentID))
	case "cluster":
		return p.once(12, p.str(&p.e.Cluster))
	case "fact":
		return p.once(13, p.str(&p.e.Fact))
	case "durationMs":
		return p.once(14, p.number(&p.e.DurationMs))
	case "error":
		return p.once(15, p.failure)
	case "retentionDays":
		return p.once(16, p.days)
	case "sensitive":
		return p.once(17, p.flag(&p.e.Sensitive))
	case "source":
		return p.once(18, p.source)
	}
	if p.entry {
		switch string(name) {
		case "v":
			return p.once(19, p.version)
		case "detailsDigest":
			return p.once(20, p.hash(&p.digest.Details))
		case "originalDigest":
			return p.once(21, p.hash(&p.digest.Original))
		case "recorded":
			return p.once(22, p.recorded)
		case "ledger":
			return p.once(23, p.ledger)
		}
		return &FieldError{Field: string(name), Reason: "no such member of an entry"}
	}
	switch string(name) {
	case "details":
		return p.once(24, p.details)
	case "original":
		return p.once(25, p.original)
	}
	if p.served {
		switch string(name) {
		case "recorded":
			return p.once(22, p.recorded)
		case "ledger":
			return p.once(23, p.ledger)
		}
		_, err := p.s.Skip()
		return err
	}
	switch string(name) {
	case "recorded":
		return refuse("is set by the server only")
	case "ledger":
		return &reserved{FieldError{Field: "ledger", Reason: ErrReserved.Error()}}
	}
	return refuse("no such member of an event")
}

// refuse is an error at the member being read.
func refuse(reason string, args ...any) error {
	return &jcs.Error{Reason: fmt.Sprintf(reason, args...)}
}

func (p *parser) once(bit int, read func() error) error {
	if p.seen&(1<<bit) != 0 {
		return refuse("stands twice")
	}
	p.seen |= 1 << bit
	if null, err := p.s.Null(); null || err != nil {
		return err
	}
	return read()
}

func (p *parser) str(dst *string) func() error {
	return func() (err error) {
		*dst, err = p.s.String()
		return err
	}
}

func (p *parser) flag(dst *bool) func() error {
	return func() (err error) {
		*dst, err = p.s.Bool()
		return err
	}
}

func (p *parser) number(dst *int64) func() error {
	return func() (err error) {
		*dst, err = p.s.Int()
		return err
	}
}

func (p *parser) id(dst *ID) func() error {
	return func() error {
		text, err := p.s.String()
		if err != nil || text == "" {
			return err
		}
		if *dst, err = ParseID(text); err != nil {
			return refuse("%v", err)
		}
		if dst.IsZero() {
			return refuse("the nil UUID names nothing")
		}
		return nil
	}
}

func (p *parser) time(dst *time.Time) func() error {
	return func() error {
		text, err := p.s.String()
		if err != nil {
			return err
		}
		if *dst, err = ParseTime(text); err != nil {
			return refuse("%v", err)
		}
		return nil
	}
}

// object reads an object of few members; fields maps a name to its reader.
func (p *parser) object(fields func(name string) func() error) error {
	var seen [8]string
	n := 0
	return p.s.Object(func(name []byte) error {
		read := fields(string(name))
		if read == nil {
			if p.served {
				_, err := p.s.Skip()
				return err
			}
			return refuse("no such member")
		}
		for _, s := range seen[:n] {
			if s == string(name) {
				return refuse("stands twice")
			}
		}
		seen[n] = string(name)
		n++
		if null, err := p.s.Null(); null || err != nil {
			return err
		}
		return read()
	})
}

func (p *parser) actor() error {
	a := &p.e.Actor
	return p.object(func(name string) func() error {
		switch name {
		case "type":
			return p.str(&a.Type)
		case "name":
			return p.str(&a.Name)
		case "serviceAccount":
			return p.str(&a.ServiceAccount)
		case "controller":
			return p.str(&a.Controller)
		}
		return nil
	})
}

func (p *parser) resource() error {
	r := &p.e.Resource
	return p.object(func(name string) func() error {
		switch name {
		case "apiVersion":
			return p.str(&r.APIVersion)
		case "kind":
			return p.str(&r.Kind)
		case "namespace":
			return p.str(&r.Namespace)
		case "name":
			return p.str(&r.Name)
		case "uid":
			return p.str(&r.UID)
		}
		return nil
	})
}

func (p *parser) failure() error {
	return p.object(func(name string) func() error {
		switch {
		case name == "code":
			return p.str(&p.e.Error.Code)
		case name == "message" && !p.entry:
			return p.str(&p.e.Error.Message)
		case name == "messageDigest" && p.entry:
			return p.hash(&p.digest.Message)
		}
		return nil
	})
}

func (p *parser) source() error {
	return p.object(func(name string) func() error {
		switch name {
		case "name":
			return p.str(&p.e.Source.Name)
		case "epoch":
			return p.str(&p.e.Source.Epoch)
		case "seq":
			return p.number(&p.e.Source.Seq)
		}
		return nil
	})
}

func (p *parser) recorded() error {
	r := &p.e.Recorded
	return p.object(func(name string) func() error {
		switch name {
		case "at":
			return p.time(&r.At)
		case "principal":
			return p.str(&r.Principal)
		case "via":
			return p.str(&r.Via)
		case "attribution":
			return p.str(&r.Attribution)
		case "uncatalogued":
			return p.flag(&r.Uncatalogued)
		}
		return nil
	})
}

func (p *parser) days() error {
	n, err := p.s.Int()
	if err != nil {
		return err
	}
	if n < 1 || n > maxRetentionDays {
		return refuse("must be from 1 to %d days", maxRetentionDays)
	}
	p.e.RetentionDays = int(n)
	return nil
}

func (p *parser) details() error {
	if p.s.Kind() != '{' {
		return p.s.Object(nil) // says what stands there instead
	}
	d, err := p.s.Canonical(nil, MaxDetailsDepth)
	if err != nil {
		return err
	}
	if len(d) > MaxDetails {
		return refuse("%d bytes, the limit is %d", len(d), MaxDetails)
	}
	if len(d) > len("{}") {
		p.e.Details, p.e.canonical = d, d
	}
	return nil
}

func (p *parser) original() error {
	return p.s.Object(func(name []byte) error {
		if p.e.Original == nil {
			p.e.Original = make(map[string]string)
		}
		if _, ok := p.e.Original[string(name)]; ok {
			return refuse("stands twice")
		}
		text, err := p.s.String()
		p.e.Original[string(name)] = text
		return err
	})
}

func (p *parser) ledger() error {
	d, err := p.s.Canonical(nil, MaxDetailsDepth)
	p.e.Ledger = d
	return err
}

func (p *parser) version() error {
	if v, err := p.s.Int(); err != nil || v != entryVersion {
		return refuse("not version %d of the entry format", entryVersion)
	}
	return nil
}

func (p *parser) hash(dst **[32]byte) func() error {
	return func() error {
		text, err := p.s.String()
		if err != nil {
			return err
		}
		if len(text) != 64 {
			return refuse("not 64 hexadecimal digits")
		}
		var h [32]byte
		for i := range h {
			hi, lo := unhex(text[2*i]), unhex(text[2*i+1])
			if hi > 15 || lo > 15 {
				return refuse("not 64 hexadecimal digits")
			}
			h[i] = hi<<4 | lo
		}
		*dst = &h
		return nil
	}
}
