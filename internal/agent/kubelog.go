package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/auditlog"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/seglog"
)

// A Sender takes events. It has all of them, durably, once it returns nil.
type Sender interface {
	RecordMany(ctx context.Context, events ...*event.Event) error
}

// A KubeLog reads the audit log that an API server writes to a file, and records what
// a policy says of it: each request once, across rotations, and across times when
// nobody reads.
type KubeLog struct {
	// File is the API server's --audit-log-path. Files that were rotated away bear its
	// name with a dash and their time in it, as API servers name them.
	File string
	// Policy says what is recorded of what the log has.
	Policy *auditlog.Policy
	// Dir keeps how far the log was read.
	Dir     string
	Cluster string // for the events
	Sender  Sender
	Log     *slog.Logger

	at   logPosition
	file *os.File
	read *bufio.Reader
	torn []byte // a line that has no end yet, as far as it is kept
	size int64  // of it
}

// A logPosition is how far a log was read.
type logPosition struct {
	Inode  uint64 `json:"inode"`
	Offset int64  `json:"offset"`
	// Head is the digest of the file's beginning, up to headSize bytes of what was read:
	// the number may be another file's by now.
	Head string `json:"head,omitempty"`
}

const headSize = 512

const (
	logPositionFile = "kube-audit-log.json"
	// maxLine bounds a line, in bytes; details have room for less.
	maxLine = 8 << 20
	// maxLines bounds the events that are recorded with one write.
	maxLines = 500
	// logPause is how often it is looked for more.
	logPause = 500 * time.Millisecond
	// logRetry is how long it is waited for what fails.
	logRetry = 5 * time.Second
)

// Run reads the log until ctx ends.
func (k *KubeLog) Run(ctx context.Context) error {
	defer k.close()
	if err := k.load(); err != nil {
		return fmt.Errorf("read how far the audit log was read: %w", err)
	}
	for told := ""; ctx.Err() == nil; {
		more, err := k.step(ctx)
		pause := logPause
		switch {
		case err != nil && ctx.Err() == nil:
			pause = logRetry
			if words := err.Error(); words != told {
				k.Log.Warn("read the API server's audit log", "file", k.File, "error", err)
				told = words
			}
		case more:
			told = ""
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

func (k *KubeLog) load() error {
	text, err := os.ReadFile(filepath.Join(k.Dir, logPositionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &k.at)
}

func (k *KubeLog) keep() error {
	text, err := json.Marshal(k.at)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, filepath.Join(k.Dir, logPositionFile), text)
}

// step records some lines, and reports whether there may be more at once.
func (k *KubeLog) step(ctx context.Context) (more bool, err error) {
	if k.file == nil {
		if err := k.open(ctx); err != nil {
			return false, err
		}
	}
	events, size, err := k.lines()
	if err != nil {
		k.close()
		return false, err
	}
	if size == 0 {
		return k.next(ctx)
	}
	if err := k.record(ctx, events); err != nil {
		k.close() // and read again
		return false, err
	}
	if k.at.Offset += size; k.at.Offset-size < headSize {
		if k.at.Head, err = head(k.file, k.at.Offset); err != nil {
			return false, err
		}
	}
	return true, k.keep()
}

// lines reads lines, as the events that are to be recorded, and how many bytes they are.
func (k *KubeLog) lines() (events []*event.Event, size int64, err error) {
	for len(events) < maxLines && size < maxLine {
		part, err := k.read.ReadSlice('\n')
		if k.size += int64(len(part)); k.size <= maxLine {
			k.torn = append(k.torn, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return events, size, nil
		case err != nil:
			return nil, 0, err
		}
		line, whole, at := bytes.TrimSpace(k.torn), k.size <= maxLine, k.at.Offset+size
		size += k.size
		k.torn, k.size = k.torn[:0], 0
		if len(line) == 0 {
			continue
		}
		var e *event.Event
		if err = errLongLine; whole {
			e, err = k.event(line)
		}
		if err != nil {
			k.Log.Warn("a line of the API server's audit log is not recorded", "file", k.File, "byte", at, "error", err)
			e = k.gap(fmt.Sprintf("the line at byte %d of file %d is no audit event: %v", at, k.at.Inode, err))
		}
		if e != nil {
			events = append(events, e)
		}
	}
	return events, size, nil
}

var errLongLine = fmt.Errorf("it is longer than %d bytes", maxLine)

// event returns the event of a line; nil if the policy does not want it.
func (k *KubeLog) event(line []byte) (*event.Event, error) {
	r, err := auditlog.Read(line)
	if err != nil {
		return nil, err
	}
	level := k.Policy.Level(r)
	if level == auditlog.None {
		return nil, nil
	}
	e, err := intake.KubeAudit(line)
	if err == nil {
		err = without(e, level)
	}
	if err != nil {
		return nil, err
	}
	e.Cluster = k.Cluster
	e.ClampTimestamp(time.Now())
	return e, nil
}

// without takes out of an event the bodies that a policy does not want.
func without(e *event.Event, level auditlog.Level) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(e.Details, &all); err != nil {
		return err
	}
	n := len(all)
	if level != auditlog.RequestResponse {
		delete(all, "responseObject")
	}
	if level == auditlog.Metadata {
		delete(all, "requestObject")
	}
	if len(all) == n {
		return nil
	}
	return e.SetDetails(all)
}

// record records events, however long it takes until there is room for them.
func (k *KubeLog) record(ctx context.Context, events []*event.Event) error {
	err := client.RecordInParts(ctx, k.Sender, events...)
	var wrong client.EventErrors
	if !errors.As(err, &wrong) {
		return err
	}
	for _, w := range wrong { // which nothing that a client sends can bring about
		k.Log.Error("an audit event cannot be recorded", "file", k.File, "error", w.Err)
		events[w.Index] = k.gap("a request cannot be recorded: " + w.Err.Error())
	}
	return client.RecordInParts(ctx, k.Sender, events...)
}

// gap returns the event that says that something of the log is missing.
func (k *KubeLog) gap(reason string) *event.Event {
	now := time.Now()
	e := &event.Event{EventType: "CaptureGap", Timestamp: now, Cluster: k.Cluster, CorrelationID: "audit-log",
		Actor: event.Actor{Type: event.ActorService, Name: "graven-agent"}, Resource: event.Resource{Kind: "AuditLog", Name: "kube-apiserver"}}
	if err := e.SetDetails(map[string]string{"resources": k.File, "reason": reason[:min(len(reason), 500)], "until": event.FormatTime(now)}); err != nil { // strings are JSON
		panic(err)
	}
	return e
}

// open opens the file that was read last, where it was.
func (k *KubeLog) open(ctx context.Context) error {
	name, lost := k.File, ""
	if k.at.Inode != 0 {
		var err error
		if name, err = k.find(k.at.Inode); err != nil {
			return err
		}
		if name == "" {
			files, err := k.rotated()
			if err != nil {
				return err
			}
			lost = "the file that was read last is gone"
			if name = k.File; len(files) > 0 {
				name = files[0]
			}
		}
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && lost == "" && k.at.Head != "" {
		var begins string
		if begins, err = head(file, k.at.Offset); err == nil && (info.Size() < k.at.Offset || begins != k.at.Head) {
			lost = "the file that was read last is gone: another, or a shorter one, is in its place"
		}
	}
	if err == nil && lost != "" {
		if err = k.record(ctx, []*event.Event{k.gap(lost)}); err == nil {
			k.at = logPosition{}
		}
	}
	if err == nil {
		k.at.Inode = inode(info)
		_, err = file.Seek(k.at.Offset, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	k.file, k.read, k.torn = file, bufio.NewReaderSize(file, 64<<10), nil
	k.size = 0
	return nil
}

// head returns the digest of a file's beginning, of the first size bytes at most.
func head(file *os.File, size int64) (string, error) {
	begin := make([]byte, min(size, headSize))
	if _, err := file.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	sum := sha256.Sum256(begin)
	return hex.EncodeToString(sum[:]), nil
}

// next goes on to the next file, if this one was rotated away and is at its end.
func (k *KubeLog) next(ctx context.Context) (more bool, err error) {
	now, err := os.Stat(k.File)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between two
	}
	if err != nil {
		return false, err
	}
	if inode(now) == k.at.Inode {
		if now.Size() < k.at.Offset {
			k.close() // it was cut: open says so
		}
		return false, nil
	}
	// It may have got a last line between its end and now.
	if info, err := k.file.Stat(); err != nil || info.Size() > k.at.Offset+k.size {
		return err == nil, err
	}
	if k.size > 0 {
		if err := k.record(ctx, []*event.Event{k.gap("the last line of a file has no end")}); err != nil {
			return false, err
		}
	}
	files, err := k.rotated()
	if err != nil {
		return false, err
	}
	name := k.File
	for i, file := range files {
		info, err := os.Stat(file)
		if err == nil && inode(info) == k.at.Inode && i+1 < len(files) {
			name = files[i+1]
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	k.close()
	k.at = logPosition{Inode: inode(info)}
	return true, k.keep()
}

// find returns the name of a file; "" if there is none.
func (k *KubeLog) find(number uint64) (string, error) {
	files, err := k.rotated()
	if err != nil {
		return "", err
	}
	for _, name := range append(files, k.File) {
		info, err := os.Stat(name)
		if err == nil && inode(info) == number {
			return name, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// rotated returns the files that were rotated away, the oldest first.
func (k *KubeLog) rotated() ([]string, error) {
	extension := filepath.Ext(k.File)
	begin := strings.TrimSuffix(filepath.Base(k.File), extension) + "-"
	entries, err := os.ReadDir(filepath.Dir(k.File))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, begin) && filepath.Ext(name) == extension && e.Type().IsRegular() {
			files = append(files, filepath.Join(filepath.Dir(k.File), name))
		}
	}
	slices.Sort(files) // by their times
	return files, nil
}

func (k *KubeLog) close() {
	if k.file != nil {
		_ = k.file.Close() // it was read only
		k.file = nil
	}
}

func inode(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	n, _ := strconv.ParseUint(info.ModTime().Format("150405"), 10, 64) // where files have no numbers
	return n
}
