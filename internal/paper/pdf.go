package paper

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
)

// Of a page, in millimetres.
const (
	margin     = 16.0
	pageWidth  = 210.0
	pageHeight = 297.0
	bottom     = 18.0
	room       = pageWidth - 2*margin
	lineHeight = 4.4
)

// made stands in every PDF as the time when it was made, so that the same sheet gives
// the same bytes.
var made = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// PDF writes the sheet as PDF, A4. Letters that its font does not have are shown as a
// box.
func (s *Sheet) PDF() ([]byte, error) {
	p := &printer{Fpdf: fpdf.New("P", "mm", "A4", "")}
	p.SetCreationDate(made)
	p.SetModificationDate(made)
	p.SetCatalogSort(true)
	p.SetTitle(plain(s.Title), true)
	p.SetMargins(margin, margin, margin)
	p.SetAutoPageBreak(false, 0)
	// The library writes into the fonts that it is given.
	p.AddUTF8FontFromBytes("go", "", bytes.Clone(goregular.TTF))
	p.AddUTF8FontFromBytes("go", "B", bytes.Clone(gobold.TTF))
	footer := plain(s.Footer)
	p.SetFooterFunc(func() {
		p.font("", 7, 110)
		p.SetXY(margin, pageHeight-12)
		p.CellFormat(room-20, 4, p.fit(footer, room-24), "", 0, "L", false, 0, "")
		p.CellFormat(20, 4, fmt.Sprintf("page %d", p.PageNo()), "", 0, "R", false, 0, "")
	})
	p.AddPage()
	p.font("B", 17, 0)
	p.paragraph(s.Title, 7.5)
	p.font("", 10, 90)
	p.paragraph(s.Subtitle, lineHeight+0.6)
	p.Ln(3)
	p.font("", 8.5, 0)
	for _, f := range s.Facts {
		p.row([]float64{40, room - 40}, []string{f.Name, f.Value}, nil)
	}
	for _, w := range s.Warnings {
		p.Ln(1)
		p.font("B", 8.5, 0)
		p.paragraph("! "+w, lineHeight)
	}
	for _, part := range s.Parts {
		p.part(&part)
	}
	var out bytes.Buffer
	if err := p.Output(&out); err != nil {
		return nil, fmt.Errorf("write PDF: %w", err)
	}
	return out.Bytes(), nil
}

type printer struct{ *fpdf.Fpdf }

func (p *printer) font(style string, size float64, grey int) {
	p.SetFont("go", style, size)
	p.SetTextColor(grey, grey, grey)
}

// need begins a page where there is no more room on this one.
func (p *printer) need(height float64) {
	if p.GetY()+height > pageHeight-bottom {
		p.AddPage()
	}
}

func (p *printer) paragraph(text string, height float64) {
	for _, line := range p.lines(text, room) {
		p.need(height)
		p.CellFormat(room, height, line, "", 1, "L", false, 0, "")
	}
}

// lines breaks a text into lines; what is longer than one without a space, too.
func (p *printer) lines(text string, width float64) (lines []string) {
	width -= 1.5
	line := ""
	for _, word := range strings.Fields(plain(text)) {
		if joined := strings.TrimLeft(line+" "+word, " "); p.GetStringWidth(joined) <= width {
			line = joined
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = ""
		for _, r := range word {
			if p.GetStringWidth(line+string(r)) > width {
				lines = append(lines, line)
				line = ""
			}
			line += string(r)
		}
	}
	return append(lines, line)
}

// fit cuts a text to a width.
func (p *printer) fit(text string, width float64) string {
	if p.GetStringWidth(text) <= width {
		return text
	}
	runes := []rune(text)
	for len(runes) > 0 && p.GetStringWidth(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

func (p *printer) part(part *Part) {
	p.need(24)
	p.Ln(6)
	p.font("B", 11.5, 0)
	p.paragraph(part.Title, 6)
	p.SetDrawColor(190, 190, 190)
	p.Line(margin, p.GetY(), pageWidth-margin, p.GetY())
	p.Ln(1.5)
	p.font("", 8.5, 40)
	for _, text := range part.Text {
		p.paragraph(text, lineHeight)
		p.Ln(1)
	}
	p.bars(part.Bars)
	if part.Table != nil {
		p.table(part.Table)
	}
}

func (p *printer) bars(bars []Bar) {
	most := 0.0
	for _, b := range bars {
		most = math.Max(most, b.Value)
	}
	p.font("", 8.5, 0)
	for _, b := range bars {
		p.need(6)
		y := p.GetY()
		p.CellFormat(48, 5.4, p.fit(plain(b.Label), 46), "", 0, "R", false, 0, "")
		if most > 0 {
			p.SetFillColor(70, 110, 160)
			p.Rect(margin+51, y+0.9, math.Max(0, b.Value)/most*95, 3.6, "F")
		}
		p.SetX(margin + 148)
		p.CellFormat(room-148, 5.4, plain(b.Text), "", 1, "R", false, 0, "")
	}
	if len(bars) > 0 {
		p.Ln(2)
	}
}

func (p *printer) table(t *Table) {
	total := 0.0
	widths := make([]float64, len(t.Columns))
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		if widths[i] = c.Share; c.Share == 0 {
			widths[i] = 1
		}
		total += widths[i]
		titles[i] = c.Title
	}
	for i := range widths {
		widths[i] *= room / total
	}
	head := func() {
		p.font("B", 8, 90)
		p.row(widths, titles, t.Columns)
		p.font("", 8, 0)
	}
	head()
	for _, row := range t.Rows {
		if p.GetY()+p.height(widths, row) > pageHeight-bottom && p.height(widths, row) < pageHeight-60 {
			p.AddPage()
			head()
		}
		p.row(widths, row, t.Columns)
	}
	if len(t.Rows) == 0 {
		p.paragraph("none", lineHeight)
	}
}

func (p *printer) height(widths []float64, row []string) float64 {
	most := 1
	for i, field := range row {
		most = max(most, len(p.lines(field, widths[i])))
	}
	return float64(most) * lineHeight
}

// row prints the fields of a row beside one another, each in as many lines as it takes.
func (p *printer) row(widths []float64, row []string, columns []Column) {
	cells := make([][]string, len(row))
	most := 1
	for i, field := range row {
		cells[i] = p.lines(field, widths[i])
		most = max(most, len(cells[i]))
	}
	for n := range most {
		p.need(lineHeight)
		for i, lines := range cells {
			line, align := "", "L"
			if n < len(lines) {
				line = lines[n]
			}
			if columns != nil && columns[i].Number {
				align = "R"
			}
			p.CellFormat(widths[i], lineHeight, line, "", 0, align, false, 0, "")
		}
		p.Ln(lineHeight)
	}
	p.SetDrawColor(225, 225, 225)
	if columns != nil {
		p.Line(margin, p.GetY()+0.3, pageWidth-margin, p.GetY()+0.3)
		p.Ln(0.8)
	}
}
