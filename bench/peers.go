package main

import (
	"context"
	"encoding/binary"
	"io"
	"path/filepath"
	"time"

	immudb "github.com/codenotary/immudb/embedded/store"
	"github.com/codenotary/immudb/pkg/logger"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
)

// tesseraWriter adds entries to tessera's POSIX log. An entry is acknowledged
// when it is durable and integrated.
func tesseraWriter(r run) (Sample, error) {
	ctx := context.Background()
	driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(r.Dir, "tessera")})
	if err != nil {
		return Sample{}, err
	}
	signer, err := newSigner()
	if err != nil {
		return Sample{}, err
	}
	// Of the batch sizes and ages that were tried with 512 producers, the
	// defaults are the best.
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(256, 250*time.Millisecond).
		WithPushback(1 << 16).WithCheckpointInterval(time.Second)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		return Sample{}, err
	}
	s, err := producers(r, r.Producers, 1, func(p int, seq int64) error {
		_, err := appender.Add(ctx, tessera.NewEntry(newBytes(int64(p)<<32+seq)))()
		return err
	})
	if err != nil {
		return s, err
	}
	return s, shutdown(ctx)
}

// immudbWriter commits transactions of r.Batch entries, synced.
func immudbWriter(r run) (Sample, error) {
	opts := immudb.DefaultOptions().WithSynced(true).WithMaxConcurrency(r.Producers + 1).WithMaxActiveTransactions(2 * r.Producers).
		WithMaxTxEntries(max(r.Batch, 1024)).WithLogger(logger.NewSimpleLoggerWithLevel("immudb", io.Discard, logger.LogError))
	st, err := immudb.Open(filepath.Join(r.Dir, "immudb"), opts)
	if err != nil {
		return Sample{}, err
	}
	s, err := producers(r, r.Producers, int64(r.Batch), func(p int, seq int64) error {
		tx, err := st.NewWriteOnlyTx()
		if err != nil {
			return err
		}
		for i := range r.Batch {
			n := int64(p)<<32 + seq*int64(r.Batch) + int64(i)
			if err := tx.Set(binary.BigEndian.AppendUint64(nil, uint64(n)), nil, newBytes(n)); err != nil {
				return err
			}
		}
		_, err = tx.AsyncCommit()
		return err
	})
	if err != nil {
		return s, err
	}
	return s, st.Close()
}
