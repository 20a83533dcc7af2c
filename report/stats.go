package report

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// NoValue stands where nothing can be computed, since there is nothing to compute it of.
const NoValue = "n/a"

// durations are what a number is made of.
type durations []time.Duration

func (d durations) mean() time.Duration {
	if len(d) == 0 {
		return 0
	}
	var sum float64
	for _, v := range d {
		sum += float64(v)
	}
	return time.Duration(math.Round(sum / float64(len(d))))
}

// quantile is the nearest-rank quantile; d is sorted.
func (d durations) quantile(p float64) time.Duration {
	return d[max(int(math.Ceil(p*float64(len(d)))), 1)-1]
}

// describe gives n its mean and percentiles. Few values have no tail to speak of: the
// 90th percentile wants 10, the 95th 20.
func (d durations) describe(n *Number) {
	slices.Sort(d)
	n.N, n.Value = len(d), NoValue
	if len(d) == 0 {
		return
	}
	n.Value, n.P50 = text(d.mean()), text(d.quantile(0.5))
	if len(d) >= 10 {
		n.P90 = text(d.quantile(0.9))
	}
	if len(d) >= 20 {
		n.P95 = text(d.quantile(0.95))
	}
}

// text writes a duration as ChatCLI does: whole seconds, without units that are zero at
// its end, such as 2m15s, 30m or 1h10m. What is shorter than a second keeps milliseconds.
func text(d time.Duration) string {
	if d < 0 {
		return "-" + text(-d)
	}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	d = d.Round(time.Second)
	out := ""
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / unit.size; n > 0 {
			out += fmt.Sprintf("%d%s", n, unit.name)
			d -= n * unit.size
		}
	}
	return out
}

// rate is part of whole, to three digits; 0 of nothing.
func rate(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return math.Round(1000*float64(part)/float64(whole)) / 1000
}

// A life is the time that something was followed for: from entry, when it was first
// seen, to exit, since its beginning; ended says that it ended then, and was not just
// lost from sight.
type life struct {
	entry, exit time.Duration
	ended       bool
}

// median is the Kaplan–Meier median with delayed entry: the time by which half of them
// have ended. ok is false where less than half ever do.
func median(lives []life) (t time.Duration, ok bool) {
	entries := make(durations, 0, len(lives))
	exits := slices.Clone(lives)
	for _, l := range lives {
		entries = append(entries, l.entry)
	}
	slices.Sort(entries)
	slices.SortFunc(exits, func(a, b life) int { return int(a.exit - b.exit) })
	survival, entered := 1.0, 0
	for i := 0; i < len(exits); {
		at := exits[i].exit
		for entered < len(entries) && entries[entered] < at {
			entered++
		}
		risk, gone := entered-i, 0
		for ; i < len(exits) && exits[i].exit == at; i++ {
			if exits[i].ended {
				gone++
			}
		}
		if gone == 0 || risk <= 0 {
			continue
		}
		survival *= 1 - float64(min(gone, risk))/float64(risk)
		if survival <= 0.5 {
			return at, true
		}
	}
	return 0, false
}

// significant is the two-sided 5 % point of the normal distribution.
const significant = 1.96

// changes say what can be said of a difference.
const (
	noChange  = "no detectable change"
	tooFew    = "too few to compare"
	increased = "higher"
	decreased = "lower"
	unknown   = "not known before"
)

// compareRates holds two rates against each other (two-proportion z test, 5 %).
func compareRates(now, nowOf, then, thenOf int) string {
	if nowOf < 5 || thenOf < 5 {
		return tooFew
	}
	pooled := float64(now+then) / float64(nowOf+thenOf)
	spread := math.Sqrt(pooled * (1 - pooled) * (1/float64(nowOf) + 1/float64(thenOf)))
	return direction(float64(now)/float64(nowOf)-float64(then)/float64(thenOf), spread)
}

// compareCounts holds two counts of windows of one length against each other (Poisson,
// conditional test, 5 %).
func compareCounts(now, then int) string {
	if now+then < 10 {
		return tooFew
	}
	return direction(float64(now-then), math.Sqrt(float64(now+then)))
}

// compareTimes holds two samples against each other (Mann–Whitney U with ties, 5 %),
// which asks of no tail to be normal.
func compareTimes(now, then durations) string {
	if len(now) < 8 || len(then) < 8 {
		return tooFew
	}
	type value struct {
		d   time.Duration
		now bool
	}
	all := make([]value, 0, len(now)+len(then))
	for _, d := range now {
		all = append(all, value{d, true})
	}
	for _, d := range then {
		all = append(all, value{d, false})
	}
	slices.SortFunc(all, func(a, b value) int { return int(a.d - b.d) })
	n, m := float64(len(now)), float64(len(then))
	var ranks, ties float64
	for i := 0; i < len(all); {
		j, ours := i, 0.0
		for ; j < len(all) && all[j].d == all[i].d; j++ {
			if all[j].now {
				ours++
			}
		}
		same := float64(j - i)
		ranks += ours * (float64(i+j+1) / 2)
		ties += same*same*same - same
		i = j
	}
	u := ranks - n*(n+1)/2
	spread := math.Sqrt(n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1))))
	return direction(u-n*m/2, spread)
}

func direction(difference, spread float64) string {
	switch {
	case spread == 0 || math.Abs(difference) < significant*spread:
		return noChange
	case difference > 0:
		return increased
	}
	return decreased
}
