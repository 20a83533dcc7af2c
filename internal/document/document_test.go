package document_test

import (
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/document"
)

func TestInputThatIsTooLongIsRefusedAsAWhole(t *testing.T) {
	const text = "{\"a\":1}\n{\"a\":2}\n"
	if docs, err := document.Split(strings.NewReader(text), int64(len(text))); err != nil || len(docs) != 2 {
		t.Errorf("%d documents, %v", len(docs), err)
	}
	if docs, err := document.Split(strings.NewReader(text), int64(len(text)-1)); err == nil {
		t.Errorf("%d documents of a longer input", len(docs))
	}
}
