package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/internal/terminal"
)

const holdsPath = "/api/v1/audit/legal-hold"

func newHold() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep events from being erased: legal holds",
		Long: `Keep events from being erased, for a lawsuit or an investigation.

A hold keeps all events in its scope, those still to come among them, until it
is released. Several may keep the same event; it goes when none does any more.
Placing, changing and releasing are events of the ledger, with who did it and why.`,
		Example: `  graven hold place --correlation-id inc-8f2a4b --reason "case 12/26"
  graven hold list
  graven hold release inc-8f2a4b --reason "case 12/26 is settled"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHoldPlace(), newHoldChange(), newHoldRelease(), newHoldList(), newHoldShow())
	return cmd
}

func newHoldPlace() *cobra.Command {
	cmd := holdOrder(func([]string) string { return holdsPath })
	cmd.Use, cmd.Short, cmd.Args = "place", "Place a legal hold", cobra.NoArgs
	cmd.Long = `Place a legal hold on the events of which all that the flags say is true.

A hold that would keep no event that there is may be a mistake, and is refused;
--future places it all the same, for those to come.

--match is a condition in CEL over event, an event in its native form, such as
'event.severity == "critical" && has(event.details.plan)'.`
	cmd.Example = `  graven hold place --correlation-id inc-8f2a4b --reason "case 12/26"
  graven hold place --actor jane@example.com --from 2026-03-01 --to 2026-03-31 --reason "inquiry"
  graven hold place --match 'event.resource.namespace.startsWith("pay")' --reason "case 13/26" --case 13/26`
	return cmd
}

func newHoldChange() *cobra.Command {
	cmd := holdOrder(func(args []string) string { return holdsPath + "/" + url.PathEscape(args[0]) })
	cmd.Use, cmd.Short, cmd.Args = "change ID", "Give a legal hold another scope, reason or case", cobra.ExactArgs(1)
	cmd.Long = "Give a legal hold another scope, reason or case. What the flags say replaces what\nthe hold said."
	cmd.Example = `  graven hold change 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 --actor jane@example.com --reason "the inquiry grew"`
	return cmd
}

// holdOrder returns a command that sends an order to the address of a hold.
func holdOrder(path func(args []string) string) *cobra.Command {
	var conn connection
	var output string
	var future bool
	var scope order
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, args []string) error {
			body := scope.body()
			body["future"] = future
			return askAndPrint(cmd, &conn, http.MethodPost, path(args), nil, body, output, terminal.PrintHold)
		},
	}
	conn.flags(cmd)
	scope.flags(cmd)
	cmd.Flags().BoolVar(&future, "future", false, "although there is no such event yet")
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	holdOutput(cmd, &output)
	return cmd
}

// An order is the flags that say which events are meant, and why.
type order map[string]*string

func (o *order) flags(cmd *cobra.Command) {
	*o = order{}
	for _, d := range []struct{ flag, member, help string }{
		{"reason", "reason", "why, as the ledger will tell; required"},
		{"case", "case", "the matter that it belongs to"},
		{"event", "event", "one event, by its id or its index"},
		{"correlation-id", "correlation_id", "the incident"},
		{"actor", "actor", "who did it"},
		{"kind", "kind", "kind of the resource"},
		{"namespace", "namespace", "namespace of the resource"},
		{"resource", "resource", "name of the resource"},
		{"from", "from", "not before: a time, a date, or an age such as 24h or 7d"},
		{"to", "to", "not after: a time, a date, or an age"},
		{"match", "match", "a condition in CEL over event"},
	} {
		(*o)[d.member] = cmd.Flags().String(d.flag, "", d.help)
	}
}

// body returns what the flags say as the server's order.
func (o order) body() map[string]any {
	body := map[string]any{}
	for name, v := range o {
		if *v != "" {
			body[name] = *v
		}
	}
	return body
}

func newHoldRelease() *cobra.Command {
	var conn connection
	var reason, output string
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Release a legal hold, by its id or its correlation id",
		Example: `  graven hold release inc-8f2a4b --reason "case 12/26 is settled"
  graven hold release 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 --reason "placed by mistake"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAndPrint(cmd, &conn, http.MethodDelete, holdsPath+"/"+url.PathEscape(args[0]), nil,
				map[string]any{"release_reason": reason}, output, terminal.PrintHold)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, as the ledger will tell; required")
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	holdOutput(cmd, &output)
	return cmd
}

func newHoldList() *cobra.Command {
	var conn connection
	var output string
	var released bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the legal holds that stand",
		Example: `  graven hold list
  graven hold list --released -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if released {
				q.Set("released", "true")
			}
			return askAndPrint(cmd, &conn, http.MethodGet, holdsPath, q, nil, output, terminal.PrintHolds)
		},
	}
	conn.flags(cmd)
	cmd.Flags().BoolVar(&released, "released", false, "those that were released, too")
	holdOutput(cmd, &output)
	return cmd
}

func newHoldShow() *cobra.Command {
	var conn connection
	var output string
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a legal hold with its history",
		Example: "  graven hold show 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11 -o yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAndPrint(cmd, &conn, http.MethodGet, holdsPath+"/"+url.PathEscape(args[0]), nil, nil, output, terminal.PrintHold)
		},
	}
	conn.flags(cmd)
	holdOutput(cmd, &output)
	return cmd
}

func holdOutput(cmd *cobra.Command, output *string) {
	oneOf(cmd, output, "output", "o", "table", "how to print", documentOutputs)
}
