package terminal

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/graven-audit/graven/client"
)

// PrintReceipt prints a receipt: as a table, ndjson, or by its name.
func PrintReceipt(w io.Writer, output string, r *client.Receipt) error {
	var err error
	switch output {
	case "table":
		what := "recorded"
		if r.Duplicate {
			what = "recorded before"
		}
		if r.Spooled {
			_, err = fmt.Fprintf(w, "%s kept until the store is back\n", r.ID)
		} else {
			_, err = fmt.Fprintf(w, "%s %s as entry %d\n", r.ID, what, r.Index)
		}
	case "ndjson":
		if r.Spooled {
			err = json.NewEncoder(w).Encode(map[string]any{"id": r.ID.String(), "name": r.Name, "spooled": true})
			break
		}
		err = json.NewEncoder(w).Encode(map[string]any{"id": r.ID.String(), "name": r.Name, "index": r.Index, "leafHash": r.LeafHash,
			"duplicate": r.Duplicate, "checkpoint": r.Checkpoint})
	case "name":
		_, err = fmt.Fprintln(w, r.Name)
	}
	return err
}
