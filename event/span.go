package event

import (
	"fmt"
	"strconv"
	"strings"
)

// A Span is consecutive numbers of one count of a source. In the resource's uid
// of [TypeRetried], [TypeDropped] and [TypeRepeated] it says of which events they tell.
type Span struct {
	Epoch    string
	From, To int64
}

// String returns "epoch:number", or "epoch:from-to".
func (s Span) String() string {
	text := s.Epoch + ":" + strconv.FormatInt(s.From, 10)
	if s.To != s.From {
		text += "-" + strconv.FormatInt(s.To, 10)
	}
	return text
}

// ParseSpan reads what String returns.
func ParseSpan(text string) (Span, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return Span{}, fmt.Errorf("%.60q has no colon between epoch and number", text)
	}
	first, last, many := strings.Cut(text[colon+1:], "-")
	s := Span{Epoch: text[:colon]}
	var err error
	if s.From, err = strconv.ParseInt(first, 10, 64); err == nil {
		if s.To = s.From; many {
			s.To, err = strconv.ParseInt(last, 10, 64)
		}
	}
	if err != nil || s.From < 1 || s.To < s.From || s.To > maxExact || s.String() != text {
		return Span{}, fmt.Errorf("%.60q has no numbers from 1 on behind its epoch", text)
	}
	return s, nil
}
