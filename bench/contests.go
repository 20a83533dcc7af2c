package main

import "time"

// contenders are all who can take part, by name.
var contenders = map[string]func(run) (Sample, error){
	"raw writer":        rawWriter,
	"raw loop":          rawLoop,
	"graven":            gravenWriter,
	"graven in batches": gravenWriter,
	"tessera":           tesseraWriter,
	"immudb":            immudbWriter,
	"immudb in batches": immudbWriter,
	"bare server":       bareServer,
	"graven serve":      gravenServer,
	"SQLite rows":       sqliteInsert,
	"follower":          follower,
	"graven verify":     verifier,
	"SHA-256":           bareHashing,
	"proofs":            prover,
	"proofs in memory":  memoryProver,
	"disk":              weigher,
	"export":            exporter,
	"SQLite dump":       dumper,
	"queries":           querier,
	"SQLite queries":    idleQuerier,
	"start":             starter,
	"report":            reporter,
	"findings":          inspecting,

	"COPY":                       rawCopy,
	"COPY into all tables":       rawCopyAll,
	"graven serve on PostgreSQL": databaseServer,
	"graven on PostgreSQL":       databaseWriter,
	"PostgreSQL as usual":        usualWriter,
	"bare channel":               bareChannel,
	"client.Record":              recorder,
	"queries of a directory":     directoryQuerier,
	"queries of PostgreSQL":      databaseQuerier,
	"capture":                    observing,
	"informer":                   informing,
	"recording webhook":          recordingWebhook,
	"bare webhook":               bareWebhook,
}

// contests are all contests, with their goals.
var contests = []contest{
	{
		name:       "512 producers",
		run:        run{Producers: 512},
		contenders: []string{"raw writer", "tessera", "graven", "immudb"},
		lines: []line{
			{"512 producers in process, 1 KiB events, events/s", "graven", "tessera", rate, 3, false},
			{"512 producers, events per CPU-second", "graven", "tessera", perCPU, 3, false},
			{"512 producers, events/s", "graven", "immudb", rate, 12, false},
			{"512 producers, events per CPU-second", "graven", "immudb", perCPU, 12, false},
			{"512 producers, events/s", "graven", "raw writer", rate, 0, false},
		},
	},
	{
		name:       "batches of 500",
		run:        run{Producers: 16, Batch: 500},
		contenders: []string{"immudb in batches", "graven in batches"},
		lines: []line{
			{"16 producers, batches of 500, events per CPU-second", "graven in batches", "immudb in batches", perCPU, 1.1, false},
			{"16 producers, batches of 500, events/s", "graven in batches", "immudb in batches", rate, 0, false},
		},
	},
	{
		name:       "one producer",
		run:        run{Producers: 1},
		contenders: []string{"raw loop", "graven"},
		lines: []line{
			{"one producer, acknowledgement at p50", "graven", "raw loop", p50, 1, true},
			{"one producer, acknowledgement at p99", "graven", "raw loop", p99, 0, true},
		},
	},
	{
		name:       "HTTP",
		run:        run{Producers: 64, Rate: 1000},
		contenders: []string{"bare server", "graven serve"},
		lines: []line{
			{"one event a POST, 64 connections, events/s", "graven serve", "bare server", rate, 0.75, false},
			{"one event a POST, 1,000/s as they come, p99", "graven serve", "bare server", p99, 2, true},
		},
	},
	{
		name:       "NDJSON over HTTP",
		run:        run{Producers: 8, Batch: 1000},
		contenders: []string{"bare server", "graven serve"},
		lines: []line{
			{"NDJSON, 1,000 events a POST, events/s", "graven serve", "bare server", rate, 0.6, false},
		},
	},
	{
		name:       "following",
		prepare:    prepareLedger(100_000),
		contenders: []string{"SQLite rows", "follower"},
		lines: []line{
			{"index and hashes rebuilt, events/s", "follower", "SQLite rows", rate, 0.8, false},
			{"index and hashes rebuilt, events per CPU-second", "follower", "SQLite rows", perCPU, 0, false},
		},
	},
	{
		name:       "verification",
		prepare:    prepareLedger(0),
		contenders: []string{"SHA-256", "graven verify"},
		lines: []line{
			{"verification of a directory, events per CPU-second", "graven verify", "SHA-256", perCPU, 0.6, false},
			{"verification of a directory, peak memory", "graven verify", "", peak, 64, true},
		},
	},
	{
		name:       "proofs",
		prepare:    prepareLedger(0),
		contenders: []string{"proofs in memory", "proofs"},
		lines: []line{
			{"inclusion proofs from the store, per core", "proofs", "proofs in memory", perCPU, 0.5, false},
		},
	},
	{
		name:       "disk",
		run:        run{Events: 100_000},
		contenders: []string{"disk"},
		lines: []line{
			{"disk for a realistic event, everything included", "disk", "", noted("of raw"), 1, true},
		},
	},
	{
		name:       "queries under load",
		run:        run{Rate: 20_000, Duration: 8 * time.Second},
		prepare:    prepareTable,
		contenders: []string{"SQLite queries", "queries"},
		lines: []line{
			{"incident by correlation id at 20,000 events/s, p99", "queries", "SQLite queries", p99, 2, true},
		},
	},
	{
		name:       "report",
		prepare:    prepareMonth,
		contenders: []string{"report", "findings"},
		lines: []line{
			{"compliance report of 30 days, and of the 30 before to compare", "report", "", noted("s"), 2, true},
			{"the same, peak memory", "report", "", peak, 256, true},
			{"looking for findings, events per CPU-second", "findings", "", perCPU, 20_000, false},
			{"the same, peak memory", "findings", "", peak, 128, true},
		},
	},
	{
		name:       "export",
		prepare:    prepareTable,
		contenders: []string{"SQLite dump", "export"},
		lines: []line{
			{"whole export, bytes/s", "export", "SQLite dump", rate, 0.5, false},
			{"whole export, peak memory of the server", "export", "", peak, 64, true},
		},
	},
	{
		name:       "start",
		run:        run{Producers: 8, Batch: 100, Rate: 20_000},
		prepare:    prepareLedger(0),
		contenders: []string{"start"},
		lines: []line{
			{"start after a kill to the first write", "start", "", noted("cold start s"), 1, true},
			{"memory at rest", "start", "", noted("MB at rest"), 60, true},
			{"memory at 20,000 events/s", "start", "", noted("MB under load"), 150, true},
		},
	},
	{
		name:       "HTTP into PostgreSQL",
		run:        run{Producers: 8, Batch: 1000},
		prepare:    prepareServer,
		contenders: []string{"COPY", "graven serve on PostgreSQL", "COPY into all tables"},
		lines: []line{
			{"NDJSON into PostgreSQL, 1,000 events a POST, events/s", "graven serve on PostgreSQL", "COPY", rate, 0.6, false},
			{"NDJSON into PostgreSQL, 1,000 events a POST, events/s", "graven serve on PostgreSQL", "COPY into all tables", rate, 0, false},
		},
	},
	{
		name:       "PostgreSQL, single events",
		run:        run{Producers: 64},
		prepare:    prepareServer,
		contenders: []string{"PostgreSQL as usual", "graven on PostgreSQL"},
		lines: []line{
			{"PostgreSQL, 64 callers, one event each, events/s", "graven on PostgreSQL", "PostgreSQL as usual", rate, 25, false},
		},
	},
	{
		name:       "PostgreSQL, batches",
		run:        run{Producers: 4, Batch: 500},
		prepare:    prepareServer,
		contenders: []string{"PostgreSQL as usual", "graven on PostgreSQL"},
		lines: []line{
			{"PostgreSQL, 4 callers, batches of 500, events/s", "graven on PostgreSQL", "PostgreSQL as usual", rate, 6, false},
		},
	},
	{
		name:       "recording client",
		run:        run{Producers: 64, Rate: 1000},
		contenders: []string{"bare channel", "client.Record"},
		lines: []line{
			{"client.Record with a spool, 1,000/s as they come, p99", "client.Record", "bare channel", p99, 2, true},
			{"client.Record, memory that is kept meanwhile", "client.Record", "", noted("MB kept"), 4, true},
		},
	},
	{
		name:       "incidents",
		prepare:    prepareLedgers,
		contenders: []string{"queries of a directory", "queries of PostgreSQL"},
		lines: []line{
			{"incident by correlation id in PostgreSQL, p99", "queries of PostgreSQL", "", p99ms, 10, true},
			{"incident by correlation id in a directory, p99", "queries of a directory", "", p99ms, 10, true},
		},
	},
	{
		name:       "capture",
		contenders: []string{"informer", "capture"},
		lines: []line{
			{"changes of watched resources recorded with a snapshot, changes/s", "capture", "informer", rate, 0, false},
			{"changes of watched resources recorded, changes/s", "capture", "", rate, 0, false},
			{"memory for each watched object", "capture", "informer", noted("B/object"), 0.5, true},
		},
	},
	{
		name:       "admission",
		run:        run{Rate: 200},
		contenders: []string{"bare webhook", "recording webhook"},
		lines: []line{
			{"a request recorded at admission, 200/s as they come, p99 in ms", "recording webhook", "", p99ms, 5, true},
			{"a request recorded at admission, p50", "recording webhook", "bare webhook", p50, 0, true},
		},
	},
}
