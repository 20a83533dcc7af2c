package listener_test

import (
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/listener"
)

// doors are a listener to which connections are handed by a test.
type doors chan net.Conn

func (d doors) Accept() (net.Conn, error) { return <-d, nil }
func (d doors) Close() error              { return nil }
func (d doors) Addr() net.Addr            { return nil }

// A guest is a client's end of a connection, and the server's.
type guest struct {
	client, server net.Conn
	gone           chan struct{} // closed when the server has closed it
}

// TestWhoeverIsLetInHasASecondAndThenMakesRoomTheLongestFirst lets in two, and
// others at the door.
func TestWhoeverIsLetInHasASecondAndThenMakesRoomTheLongestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := make(doors)
		l := listener.Limit(d, 2)
		come := func() *guest {
			client, conn := net.Pipe()
			go func() { d <- conn }()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			g := &guest{client, server, make(chan struct{})}
			go func() {
				defer close(g.gone)
				_, _ = client.Read(make([]byte, 1))
			}()
			return g
		}
		must := func(g *guest, stay bool, what string) {
			t.Helper()
			synctest.Wait()
			select {
			case <-g.gone:
				if stay {
					t.Errorf("%s has to go", what)
				}
			default:
				if !stay {
					t.Errorf("%s stays", what)
				}
			}
		}
		first := come()
		time.Sleep(500 * time.Millisecond)
		second := come()
		time.Sleep(499 * time.Millisecond)
		must(come(), false, "one who comes when nobody has waited for a second")
		must(first, true, "one who has waited for less than a second")

		time.Sleep(time.Millisecond)
		third := come()
		must(first, false, "one who has waited for a second")
		must(second, true, "one who has not waited longest")

		// One who is served does not wait, and waits anew when it was served.
		time.Sleep(time.Second)
		l.Changed(second.server, http.StateActive)
		fourth := come()
		must(second, true, "one who is served")
		must(third, false, "the longest of those who wait")
		l.Changed(second.server, http.StateIdle)
		time.Sleep(time.Second)
		fifth := come()
		must(fourth, false, "one who has waited since before another was served")
		must(second, true, "one who was served since")
		for _, g := range []*guest{second, fifth} {
			if err := g.server.Close(); err != nil {
				t.Error(err)
			}
		}
		for range 2 { // what was closed is counted no more
			g := come()
			must(g, true, "one for whom there is room")
			defer g.server.Close()
		}
	})
}
