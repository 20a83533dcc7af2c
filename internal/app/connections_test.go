package app_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// dial opens a connection to a server, and sends something.
func (s *server) dial(text string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.app.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func TestWhoSaysNothingMakesRoomForOthers(t *testing.T) {
	c := config(t)
	c.MaxConnections = 3
	s := run(t, c)
	secret := token(t, c)
	// One is served all the while, and is none of those who wait.
	busy := s.dial(fmt.Sprintf("POST /api/v1/audit/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", secret, len(native)))
	answers := bufio.NewReader(busy)
	if line, err := answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	texts := []string{"", "GET / HTTP/1.1\r\nX-", "", "G", "", ""}
	closed := make(chan error, len(texts))
	for _, text := range texts {
		conn := s.dial(text)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			closed <- err
		}()
	}
	leaves := func() {
		t.Helper()
		if err := <-closed; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("of more connections than there may be none is closed: %v", err)
		}
	}
	for range len(texts) - 2 {
		leaves()
	}
	// Those that were let in have a second to say something.
	for end := time.Now().Add(time.Minute); ; {
		resp, err := s.client.Get(s.app.URL() + "/readyz")
		if err == nil {
			if resp.Body.Close(); resp.StatusCode != http.StatusOK {
				t.Errorf("status %d", resp.StatusCode)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody makes room: %v", err)
		}
	}
	leaves()
	if _, err := io.WriteString(busy, native); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestWhereAllAreServedANewConnectionGoes(t *testing.T) {
	c := config(t)
	c.MaxConnections = 1
	s := run(t, c)
	secret := token(t, c)
	stream := s.dial("GET /api/v1/audit/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(stream), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", resp, err)
	}
	other := s.dial("")
	if n, err := other.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("there is room for two")
	}
	stream.Close()
	for end := time.Now().Add(time.Minute); ; {
		resp, err := s.client.Get(s.app.URL() + "/healthz")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a connection that has ended is counted still: %v", err)
		}
	}
}
