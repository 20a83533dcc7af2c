module github.com/graven-audit/graven

go 1.26.0

require (
	github.com/gowebpki/jcs v1.0.2 // indirect
	golang.org/x/mod v0.42.0 // indirect
)
