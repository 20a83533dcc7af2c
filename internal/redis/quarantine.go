package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/quarantine"
)

// Quarantine keeps an event that the ledger refused for good in a hash, by its id
// in the stream.
func (q *Queue) Quarantine(r deadletter.Refused) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	h := deadletter.Held(r)
	h.At = time.Now().UTC()
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return q.client.HSet(ctx, q.refused, r.Item.ID, text).Err()
}

// A Quarantine is what the ledger refused for good of a stream. Servers may be at
// work meanwhile.
type Quarantine struct{ *server }

// OpenQuarantine opens the quarantine of a ledger on the server at a URL.
func OpenQuarantine(ctx context.Context, url, origin string) (*Quarantine, error) {
	s, err := connect(ctx, url, origin)
	if err != nil {
		return nil, err
	}
	return &Quarantine{s}, nil
}

// List returns what is in quarantine, in the order in which it came into the
// stream.
func (q *Quarantine) List(ctx context.Context) ([]quarantine.Held, error) {
	all, err := q.client.HGetAll(ctx, q.refused).Result()
	if err != nil {
		return nil, q.failed(err)
	}
	list := make([]quarantine.Held, 0, len(all))
	for id, text := range all {
		list = append(list, held(id, text))
	}
	slices.SortFunc(list, func(a, b quarantine.Held) int {
		am, as := place(a.ID)
		bm, bs := place(b.ID)
		return cmp.Or(cmp.Compare(am, bm), cmp.Compare(as, bs), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// held reads what is kept under an id. What cannot be read can be dropped.
func held(id, text string) quarantine.Held {
	var h quarantine.Held
	if err := json.Unmarshal([]byte(text), &h); err != nil || h.Reason == "" {
		return quarantine.Held{ID: id, Reason: "damaged: it cannot be read", Bytes: []byte(text)}
	}
	h.ID, h.Number, h.Count = id, 0, 0
	return h
}

// place returns what a stream's ids are ordered by.
func place(id string) (ms, n uint64) {
	first, second, _ := strings.Cut(id, "-")
	ms, _ = strconv.ParseUint(first, 10, 64) // what is none comes first
	n, _ = strconv.ParseUint(second, 10, 64)
	return ms, n
}

// out has something out of quarantine, unless it is not what it was, and puts
// what tells of it into the stream. Where the server has no room for all of that,
// it is still in quarantine. A server that was killed may have left the item in
// the stream, too. What is no id is not there.
var out = goredis.NewScript(`
if redis.call("HGET", KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.pcall("XDEL", KEYS[2], ARGV[1])
for i = 3, #ARGV do redis.call("XADD", KEYS[2], "*", "` + field + `", ARGV[i]) end
redis.call("HDEL", KEYS[1], ARGV[1])
return 1`)

// Out carries out a decision, wholly or not at all.
func (q *Quarantine) Out(ctx context.Context, key string, d quarantine.Decision) error {
	if err := d.Check(); err != nil {
		return err
	}
	text, err := q.client.HGet(ctx, q.refused, key).Result()
	if errors.Is(err, goredis.Nil) {
		return fmt.Errorf("%.60q: %w", key, quarantine.ErrNone)
	}
	if err != nil {
		return q.failed(err)
	}
	items, err := deadletter.Decided(held(key, text), d)
	if err != nil {
		return err
	}
	args := []any{key, text}
	for _, it := range items {
		args = append(args, it)
	}
	done, err := out.Run(ctx, q.client, []string{q.refused, q.stream}, args...).Bool()
	switch {
	case err != nil:
		return q.failed(err)
	case !done:
		return fmt.Errorf("%.60q: somebody has decided of it at the same time: %w", key, quarantine.ErrNone)
	}
	return nil
}

// Close closes the connections.
func (q *Quarantine) Close() error { return q.client.Close() }
