package terminal

import (
	"errors"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/event"
)

// A Filter is the flags that say which events are meant.
type Filter struct {
	values map[string]*string
	since  string
	access bool
}

// Flags adds the filter's flags to a command.
func (f *Filter) Flags(cmd *cobra.Command) {
	f.values = map[string]*string{}
	for _, d := range []struct{ flag, param, help string }{
		{"type", "type", "event types, separated by commas; either spelling"},
		{"category", "category", "categories, separated by commas"},
		{"severity", "severity", "severities, separated by commas: critical, high, medium, low, info"},
		{"actor", "actor", "who did it"},
		{"correlation-id", "correlation_id", "the incident"},
		{"namespace", "namespace", "namespace of the resource"},
		{"kind", "kind", "kind of the resource"},
		{"resource", "resource", "name of the resource"},
		{"outcome", "outcome", "outcomes, separated by commas: success, failure, pending, unknown"},
		{"cluster", "cluster", "the cluster"},
		{"from", "from", "not before: a time, a date, or an age such as 24h or 7d"},
		{"to", "to", "not after: a time, a date, or an age"},
		{"text", "q", "text that stands anywhere in the event"},
		{"detail-key", "detail_key", "a member of the details that is as --detail-value says"},
		{"detail-value", "detail_value", "what the member --detail-key of the details is"},
	} {
		v := new(string)
		shorthand := ""
		if d.flag == "namespace" {
			shorthand = "n"
		}
		cmd.Flags().StringVarP(v, d.flag, shorthand, "", d.help)
		f.values[d.param] = v
	}
	cmd.Flags().StringVar(&f.since, "since", "", "no longer ago than, such as 24h or 7d; the same as --from")
	cmd.Flags().BoolVar(&f.access, "access", false, "include events that tell who read the ledger")
	for flag, values := range map[string][]string{
		"severity": {"critical", "high", "medium", "low", "info"}, "outcome": {"success", "failure", "pending", "unknown"}} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("type", CompleteTypes))
}

// Query returns the filter as the server's parameters.
func (f *Filter) Query() (url.Values, error) {
	q := url.Values{}
	for param, v := range f.values {
		if *v != "" {
			q.Set(param, *v)
		}
	}
	if f.since != "" {
		if q.Has("from") {
			return nil, errors.New("--since and --from say the same")
		}
		q.Set("from", f.since)
	}
	if q.Has("detail_key") != q.Has("detail_value") {
		return nil, errors.New("--detail-key and --detail-value say something together only")
	}
	if f.access {
		q.Set("access", "true")
	}
	return q, nil
}

// CompleteTypes completes event types.
func CompleteTypes(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, t := range event.Types() {
		if strings.HasPrefix(t.Type, prefix) {
			names = append(names, t.Type+"\t"+t.Description)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
