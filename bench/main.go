package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags that targets look at.
type settings struct {
	runs    int
	seconds time.Duration // of a measured window; 0: the target's own
	binary  string        // posthorn
	cache   string        // .cache/bench
	profile string        // where to write a CPU profile of posthorn; "": none
	long    bool
	log     func(format string, args ...any)
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "broker":
			return broker(ctx)
		case "loop":
			return loop(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	s := &settings{log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
	}}
	list := flags.Bool("list", false, "list the targets")
	flags.IntVar(&s.runs, "runs", 0, "runs of each target (default: the target's own, 3 mostly)")
	flags.DurationVar(&s.seconds, "window", 0, "how long each run measures (default: the target's own)")
	flags.StringVar(&s.binary, "posthorn", "bin/posthorn", "the program to measure")
	flags.StringVar(&s.cache, "cache", ".cache/bench", "where results.json and what is built go")
	flags.StringVar(&s.profile, "profile", "", "write CPU profiles of posthorn to this directory, which costs a few percent")
	flags.BoolVar(&s.long, "long", false, "the long windows: 180 s for isolation")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		for _, t := range targets {
			fmt.Printf("%-16s %s\n", t.name, t.about)
		}
		return nil
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if _, err := os.Stat(s.binary); err != nil {
		return fmt.Errorf("looking for the program to measure: %w; make build makes it", err)
	}
	if err := os.MkdirAll(s.cache, 0o750); err != nil {
		return err
	}
	var failed []error
	var all []row
	for _, t := range chosen {
		rows, err := t.measure(ctx, s)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.name, err))
			s.log("%s failed: %v", t.name, err)
		}
		all = append(all, rows...)
		if ctx.Err() != nil {
			break
		}
	}
	printTable(os.Stdout, all)
	return errors.Join(append(failed, merge(filepath.Join(s.cache, "results.json"), all))...)
}

// choose finds targets by name; none means all.
func choose(names []string) ([]*target, error) {
	if len(names) == 0 {
		return targets, nil
	}
	var out []*target
	for _, name := range names {
		i := slices.IndexFunc(targets, func(t *target) bool { return t.name == name })
		if i < 0 {
			var known []string
			for _, t := range targets {
				known = append(known, t.name)
			}
			return nil, fmt.Errorf("no target %q; there are %s", name, strings.Join(known, ", "))
		}
		out = append(out, targets[i])
	}
	return out, nil
}
