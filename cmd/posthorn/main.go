// Posthorn delivers webhooks at scale from Kafka. This package is its command
// line: flags become configuration, signals a context, errors an exit code.
//
// # Exit codes
//
// 0 is success, 1 a failure, 2 a mistake of the command line or the
// configuration, and 128 + n the end by signal n: 130 for SIGINT, 143 for
// SIGTERM. The first signal lets a command end in order (a process of the line
// that drains, a receiver that stops, exit with 0 for that); the second ends it
// at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"posthorn/internal/cli"
	"posthorn/internal/config"
	"posthorn/internal/embedded"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	embedded.ClickHouseChild() // never returns in the process that is the engine
	routeLog(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, signals := watchSignals(context.Background(), os.Exit)
	code := execute(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	signals.stop()
	os.Exit(code)
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exit is thrown by kong when it has shown a help text.
type exit int

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, io streams) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	var g grammar
	parser, err := kong.New(&g,
		kong.Name("posthorn"),
		kong.Description("Delivers webhooks at scale from Kafka.\n\n"+
			"Exit codes: 0 success, 1 failure, 2 a mistake of the command line or the configuration, 130 and 143 ended by SIGINT and SIGTERM."),
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(io),
	)
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(io.err, "posthorn: %v\n", err)
		fmt.Fprintln(io.err, "posthorn --help, or posthorn <command> --help, says what can be given")
		return exitUsage
	}
	return exitCode(ctx, parsed.Run(), io.err)
}

// exitCode reports an error and translates it.
func exitCode(ctx context.Context, err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	// Both are looked for before the rest: an interrupted command says that
	// its context was cancelled, which is no news to who did it.
	var s *signalError
	if errors.Is(err, context.Canceled) || errors.As(err, &s) {
		if errors.As(context.Cause(ctx), &s) {
			fmt.Fprintf(stderr, "posthorn: ended by %v\n", s)
			return s.exitCode()
		}
	}
	fmt.Fprintf(stderr, "posthorn: %v\n", err)
	var usage *cli.UsageError
	var mistakes *config.Error
	if errors.As(err, &usage) || errors.As(err, &mistakes) {
		return exitUsage
	}
	return exitFailure
}
