package paper

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
)

//go:embed sheet.html
var page string

var pages = template.Must(template.New("sheet").Funcs(template.FuncMap{"plain": plain, "chart": chart}).Parse(page))

// HTML writes the sheet as a page that loads nothing and runs nothing.
func (s *Sheet) HTML() ([]byte, error) {
	var out bytes.Buffer
	if err := pages.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return out.Bytes(), nil
}

// A drawn chart is its bars with where they are.
type drawn struct {
	Height int
	Bars   []drawnBar
}

type drawnBar struct {
	Bar
	Y, Middle int
	Width     float64
}

const (
	barHeight = 22
	barRoom   = 380.0
)

func chart(bars []Bar) drawn {
	most := 0.0
	for _, b := range bars {
		most = math.Max(most, b.Value)
	}
	d := drawn{Height: barHeight * len(bars)}
	for i, b := range bars {
		width := 0.0
		if most > 0 {
			width = math.Round(10*barRoom*math.Max(0, b.Value)/most) / 10
		}
		d.Bars = append(d.Bars, drawnBar{b, barHeight*i + 3, barHeight*i + barHeight/2 + 4, width})
	}
	return d
}
