package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
)

// conditions returns a filter as SQL, the arguments of which follow those that
// are there; possible is false where nothing can match.
func conditions(f *search.Filter, args []any) (sql string, all []any, possible bool) {
	var b strings.Builder
	add := func(format string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&b, " AND "+format, len(args))
	}
	one := func(column, value string) {
		if value != "" {
			// Some columns are indexed where they are not empty, which a plan
			// that is kept for other values must know.
			add(column+" = $%d AND "+column+" <> ''", value)
		}
	}
	list := func(column string, values []string) {
		if len(values) > 0 {
			add(column+" = ANY($%d)", values)
		}
	}
	list("event_type", f.Types)
	list("event_category", f.Categories)
	list("severity", f.Severities)
	list("event_outcome", f.Outcomes)
	one("actor_id", f.Actor)
	one("correlation_id", f.CorrelationID)
	one("namespace", f.Namespace)
	one("resource_type", f.Kind)
	one("resource_id", f.Resource)
	one("cluster_id", f.Cluster)
	list("namespace", f.Scope)
	if !f.WithAccess() {
		add("event_type <> ALL($%d)", accessTypes())
	}
	moment := func(op string, at any, nanos int16) {
		args = append(args, at, nanos)
		fmt.Fprintf(&b, " AND event_timestamp %[1]s= $%[2]d AND (event_timestamp, event_nanos) %[1]s= ($%[2]d, $%[3]d)", op, len(args)-1, len(args))
	}
	if !f.From.IsZero() {
		at, nanos := split(f.From)
		moment(">", at, nanos)
	}
	if !f.To.IsZero() {
		at, nanos := split(f.To)
		moment("<", at, nanos)
	}
	return b.String(), args, f.Scope == nil || len(f.Scope) > 0
}

// accessTypes are the types of events that tell who read the ledger.
func accessTypes() (types []string) {
	for _, t := range event.Types() {
		if t.Access {
			types = append(types, t.Type)
		}
	}
	return types
}

// Select implements [search.Index].
func (s *Store) Select(ctx context.Context, f *search.Filter, r search.Range, oldest bool, limit int, offset int64) ([]int64, error) {
	months, err := s.monthsOf(ctx, r.First, r.End)
	if err != nil {
		return nil, fmt.Errorf("select entries: %w", err)
	}
	order := "ASC"
	if !oldest {
		months, order = slices.Clone(months), "DESC"
		slices.Reverse(months)
	}
	var found []int64
	for _, m := range months {
		where, args, possible := conditions(f, []any{m.month, r.First, r.End})
		if !possible || len(found) == limit {
			break
		}
		const from = " FROM audit_events WHERE recorded_month = $1 AND ledger_index >= $2 AND ledger_index < $3"
		if offset > 0 {
			var n int64
			if err := s.readers.QueryRow(ctx, "SELECT count(*)"+from+where, args...).Scan(&n); err != nil {
				return nil, fmt.Errorf("select entries: %w", err)
			}
			if n <= offset {
				offset -= n
				continue
			}
		}
		args = append(args, limit-len(found), offset)
		rows, err := s.readers.Query(ctx, fmt.Sprintf("SELECT ledger_index%s%s ORDER BY ledger_index %s LIMIT $%d OFFSET $%d", from, where, order, len(args)-1, len(args)), args...)
		if err == nil {
			var list []int64
			list, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			found = append(found, list...)
		}
		if err != nil {
			return nil, fmt.Errorf("select entries: %w", err)
		}
		offset = 0
	}
	return found, nil
}

// Count implements [search.Index].
func (s *Store) Count(ctx context.Context, f *search.Filter, r search.Range) (n int64, err error) {
	if r.First < r.End && f.All() && f.WithAccess() {
		return r.End - r.First, nil
	}
	months, err := s.monthsOf(ctx, r.First, r.End)
	if err != nil || len(months) == 0 {
		return 0, err
	}
	where, args, possible := conditions(f, []any{months[0].month, months[len(months)-1].month, r.First, r.End})
	if !possible {
		return 0, nil
	}
	err = s.readers.QueryRow(ctx, "SELECT count(*) FROM audit_events WHERE recorded_month >= $1 AND recorded_month <= $2 AND ledger_index >= $3 AND ledger_index < $4"+where, args...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count entries: %w", err)
	}
	return n, nil
}
