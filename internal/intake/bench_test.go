package intake_test

import (
	"testing"

	"github.com/graven-audit/graven/internal/intake"
)

func BenchmarkKubeAudit(b *testing.B) {
	lines, size := sample(b), 0
	for _, l := range lines {
		size += len(l)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := intake.KubeAudit(lines[i%len(lines)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKubernaut(b *testing.B) {
	b.SetBytes(int64(len(full)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := intake.Native([]byte(full)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendKubernaut(b *testing.B) {
	e, _, err := intake.Native([]byte(full))
	if err != nil {
		b.Fatal(err)
	}
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var row []byte
	for b.Loop() {
		row = intake.AppendKubernaut(row[:0], e, intake.Row{})
	}
}
