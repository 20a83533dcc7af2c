// Package arch holds the rules of the house as a test: who may import whom,
// how large a package may grow, and what no file may contain.
//
// Every package has a floor and imports only lower floors, never its own:
//
//	commands   cmd/*                      wiring only, and cmd/graven-verify far less
//	wiring     internal/app               the one package that knows everyone
//	edges      stores, doors, sinks       one technology each, never another edge
//	engines    internal/sqlite            a technology that stores stand on
//	recorders  recorder, rbac
//	types      api/...                    Kubernetes types, nothing of ours
//	features   ledger, search, report, …  know no HTTP, no SQL, no Kubernetes, not each other
//	tools      verify, client
//	format     trail
//	ground     event, internal/seglog
//	cellar     internal/jcs, internal/posting, examples     nothing of ours
//
// Apart from the floors stand this package and the generator of the docs. The table in floors_test.go is the only list of packages; a
// package that is not in it fails the test, so that no drawer appears by accident.
//
// The test reads the files with package os. A test that asked the go command
// for the import graph would stay cached, and green, after an offence, because
// Go's test cache sees only the files that the test itself has opened.
package arch
