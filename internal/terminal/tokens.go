package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintTokens writes a server's list of tokens, a line each.
func PrintTokens(out io.Writer, raw json.RawMessage) error {
	var list struct {
		Tokens []struct {
			Name       string     `json:"name"`
			Role       string     `json:"role"`
			Namespaces []string   `json:"namespaces"`
			Attests    bool       `json:"attests"`
			CreatedAt  time.Time  `json:"createdAt"`
			CreatedBy  string     `json:"createdBy"`
			ExpiresAt  *time.Time `json:"expiresAt"`
		} `json:"tokens"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tROLE\tNAMESPACES\tATTESTS\tCREATED\tBY\tEXPIRES")
	for _, t := range list.Tokens {
		expires, namespaces := "never", "all"
		if t.ExpiresAt != nil {
			expires = Clock(*t.ExpiresAt)
		}
		if t.Namespaces != nil {
			namespaces = strings.Join(t.Namespaces, ",")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s\t%s\t%s\n", Cell(t.Name), Cell(t.Role), Cell(namespaces), t.Attests, Clock(t.CreatedAt), Cell(t.CreatedBy), expires)
	}
	return w.Flush()
}
