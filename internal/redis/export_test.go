package redis

import "context"

// Measure looks how long the stream is, as is done now and then.
func (q *Queue) Measure(ctx context.Context) error { return q.measure(ctx) }
