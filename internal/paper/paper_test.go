package paper_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/paper"
)

func hostile() *paper.Sheet {
	evil := "<script>alert(1)</script>\x1b[31m\u202ereversed\x00 日本語 " + strings.Repeat("w", 400)
	return &paper.Sheet{Title: evil, Subtitle: evil, Facts: []paper.Fact{{Name: evil, Value: evil}}, Warnings: []string{evil}, Footer: evil,
		Parts: []paper.Part{{Title: evil, Text: []string{evil}, Bars: []paper.Bar{{Label: evil, Value: 3, Text: "3"}, {Label: "none", Value: 0, Text: "0"}},
			Table: &paper.Table{Columns: []paper.Column{{Title: evil, Share: 2}, {Title: "n", Number: true}}, Rows: [][]string{{evil, "1"}, {"b", "2"}}}},
			{Title: "empty", Table: &paper.Table{Columns: []paper.Column{{Title: "a"}}}}}}
}

func TestHostileTextIsTextAndNothingElse(t *testing.T) {
	page, err := hostile().HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "\x1b", "\u202e", "\x00", "http://", "https://", "src="} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("the page has %q", bad)
		}
	}
	if _, err := hostile().PDF(); err != nil {
		t.Error(err)
	}
}

func TestTheSameSheetGivesTheSameBytes(t *testing.T) {
	one, err := hostile().PDF()
	if err != nil {
		t.Fatal(err)
	}
	two, err := hostile().PDF()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("two PDFs of one sheet differ")
	}
}

func TestASpreadsheetRunsNoField(t *testing.T) {
	for text, want := range map[string]string{"=1+1": "'=1+1", "+1": "'+1", "-2+3": "'-2+3", "-2.5": "-2.5", "@x": "'@x", "\t=1": "'\t=1", " =1": "' =1",
		"2": "2", "": "", "a=b": "a=b", "\rx": "'\rx", "＝1": "'＝1"} {
		if got := paper.Field(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := string(paper.CSV([][]string{{"a,b", "=x"}, {"\xff", "c"}})); got != "\ufeff\"a,b\",'=x\r\n\ufffd,c\r\n" {
		t.Errorf("CSV is %q", got)
	}
}
