package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// goBench runs a Go benchmark and returns its figures by unit, those of the
// sub-benchmark whose name has that end.
func goBench(ctx context.Context, pkg, pattern, end string, args ...string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-bench", pattern, "-benchmem", "-timeout", "20m"}, append(args, pkg)...)...) //nolint:gosec // our own packages
	cmd.Env = append(os.Environ(), "POSTHORN_BENCH_LEDGER=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", pattern, pkg, err, out)
	}
	for line := range bytes.Lines(out) {
		fields := strings.Fields(string(line))
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(fields[0], "-")
		if !strings.HasSuffix(name, end) {
			continue
		}
		figures := make(map[string]float64)
		for i := 2; i+1 < len(fields); i += 2 {
			if x, err := strconv.ParseFloat(fields[i], 64); err == nil {
				figures[fields[i+1]] = x
			}
		}
		return figures, nil
	}
	return nil, fmt.Errorf("go test -bench %s %s printed no figures:\n%s", pattern, pkg, out)
}

// matching is the lookup among a million subscriptions of 100,000 tenants.
func matching(ctx context.Context, s *settings) ([]row, error) {
	const name = "matching"
	took := &figure{what: "an event among 1,000,000 subscriptions", unit: "µs", goal: atMost(1)}
	allocs := &figure{what: "allocations", unit: "", goal: atMost(0)}
	for range runsOf(s, 3) {
		f, err := goBench(ctx, "./registry/match", "LookupAmongAMillion", "", "-benchtime", "1s")
		if err != nil {
			return nil, err
		}
		s.log("%s: %.0f ns, %.0f allocations", name, f["ns/op"], f["allocs/op"])
		took.values = append(took.values, f["ns/op"]/1000)
		allocs.values = append(allocs.values, f["allocs/op"])
	}
	return rowsOf(name, took, allocs), nil
}

// sinkRows is the CPU of the ClickHouse sink, the engine apart, per row.
func sinkRows(ctx context.Context, s *settings) ([]row, error) {
	const name = "ClickHouse sink"
	cost := &figure{what: "CPU per 1,000 rows", unit: "s/1k", goal: atMost(0.006)}
	rate := &figure{what: "rows into the engine", unit: "1/s"}
	for range runsOf(s, 3) {
		f, err := goBench(ctx, "./analytics/sink", "InsertAttempts", "", "-benchtime", "3x")
		if err != nil {
			return nil, err
		}
		s.log("%s: %.4f CPU s/1k, %.0f rows/s", name, f["cpu-s/100k"]/100, f["rows/s"])
		cost.values = append(cost.values, f["cpu-s/100k"]/100)
		rate.values = append(rate.values, f["rows/s"])
	}
	return rowsOf(name, cost, rate), nil
}
