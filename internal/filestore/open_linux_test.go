package filestore_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/testdisk"
)

// TestFewFilesAreOpenHoweverManyAreRead reads records of hundreds of segments,
// as many callers do at once, while more are recorded.
func TestFewFilesAreOpenHoweverManyAreRead(t *testing.T) {
	dir := testdisk.MemoryDir(t)
	b := newBed(t, dir, filestore.Options{SegmentSize: 1 << 10})
	r := b.Start(t)
	for n := range 500 {
		r.AppendMany(n, 1)
	}
	if n := len(segments(t, dir)); n < 200 {
		t.Fatalf("%d segments", n)
	}
	size := r.Size()
	var readers sync.WaitGroup
	most := make([]int, 4)
	for reader := range most {
		readers.Go(func() {
			for index := range size {
				index = (index + int64(reader)*size/4) % size
				if _, err := r.Store.Record(t.Context(), index); err != nil {
					t.Error(err)
				}
				if index%20 == 0 {
					most[reader] = max(most[reader], opened(t, dir))
				}
			}
		})
	}
	r.AppendMany(500, 100)
	readers.Wait()
	r.Check(b)
	t.Logf("%v files were open", most)
	for _, n := range append(most, opened(t, dir)) {
		if n > 2*64+40 {
			t.Errorf("%d files are open", n)
		}
	}
	r.Stop()
	if n := opened(t, dir); n != 0 {
		t.Errorf("%d files are open behind the end", n)
	}
}

// opened counts the open files below a directory.
func opened(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", f.Name()))
		if err == nil && strings.HasPrefix(path, dir+"/") {
			n++
		}
	}
	return n
}
