package terminal

import "io"

// NewScreen is [Screen] for tests, who have no terminal.
func NewScreen(w io.Writer) io.Writer { return &screen{w: w} }
