package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// row is one figure of one target, the median of its runs.
type row struct {
	Target string  `json:"target"`
	What   string  `json:"what"` // which of the target's figures
	Figure float64 `json:"figure"`
	Unit   string  `json:"unit"`
	// Goal is what was asked for, such as "≤ 0.055"; empty for figures that
	// are there to explain others.
	Goal  string  `json:"goal"`
	Holds bool    `json:"holds"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Runs  int     `json:"runs"`
	// LimitSameRun is what the limit loop reached in the same run, if there is one.
	LimitSameRun float64 `json:"limit_same_run,omitempty"`
}

// goal is what a figure is held to.
type goal struct {
	sign  string // "≤" or "≥"
	bound float64
}

func atMost(x float64) *goal  { return &goal{"≤", x} }
func atLeast(x float64) *goal { return &goal{"≥", x} }

func (g *goal) text() string {
	if g == nil {
		return ""
	}
	return g.sign + " " + number(g.bound)
}

func (g *goal) holds(x float64) bool {
	switch {
	case g == nil:
		return true
	case math.IsNaN(x):
		return false
	case g.sign == "≤":
		return x <= g.bound
	}
	return x >= g.bound
}

// figure is a measured value over the runs of a target.
type figure struct {
	what, unit string
	goal       *goal
	values     []float64
	limits     []float64 // of the limit loop in the same run
}

func (f *figure) row(target string) row {
	m := median(f.values)
	r := row{Target: target, What: f.what, Figure: m, Unit: f.unit, Goal: f.goal.text(), Holds: f.goal.holds(m),
		Min: slices.Min(f.values), Max: slices.Max(f.values), Runs: len(f.values)}
	if len(f.limits) > 0 {
		r.LimitSameRun = median(f.limits)
	}
	return r
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// number writes three significant digits, and whole numbers from 1,000 on.
func number(x float64) string {
	if math.Abs(x) >= 1000 {
		return strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TARGET\tFIGURE\tMEDIAN\tUNIT\tGOAL\t\tMIN–MAX\tRUNS\tLIMIT, SAME RUN")
	for _, r := range rows {
		verdict, limit := "", ""
		if r.Goal != "" {
			verdict = "pass"
			if !r.Holds {
				verdict = "falls short"
			}
		}
		if r.LimitSameRun != 0 {
			limit = number(r.LimitSameRun)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s–%s\t%d\t%s\n", r.Target, r.What, number(r.Figure), r.Unit, r.Goal, verdict, number(r.Min), number(r.Max), r.Runs, limit)
	}
	_ = t.Flush()
}

// merge writes the rows into the file, in place of those of the same target.
func merge(file string, rows []row) error {
	var kept []row
	old, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(old, &kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading earlier results: %w", err)
	}
	kept = slices.DeleteFunc(kept, func(k row) bool {
		return slices.ContainsFunc(rows, func(r row) bool { return r.Target == k.Target })
	})
	out, err := json.MarshalIndent(append(kept, rows...), "", "  ")
	if err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return os.WriteFile(file, append(out, '\n'), 0o600)
}
