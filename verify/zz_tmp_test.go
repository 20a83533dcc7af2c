package verify_test

import (
	"os"
	"testing"
)

func BenchmarkZZ(b *testing.B) {
	dir := os.Getenv("ZZDIR")
	if dir == "" {
		b.Skip()
	}
	k, _ := writeLarge(b, dir, 10_000_000, 512)
	os.WriteFile(dir+"/key", []byte(k.vkey), 0o600)
}
