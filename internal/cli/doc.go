// Package cli is the logic of the commands of posthorn that is not the line
// itself: the client of the endpoint API, the producer of events, the local
// receiver, and what works on topics and configurations.
//
// Commands write their result to the writer that they are given, for people or
// (where asked) as JSON for scripts. Everything that goes wrong is returned; an
// [*UsageError] says that the command line itself was at fault.
package cli

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"posthorn/internal/config"
)

// UsageError is a mistake of the command line, as opposed to a failure of what
// it asked for.
type UsageError struct {
	Text string // what is wrong and what would be right
}

func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// NewLogger returns the logger that a configuration asks for. An unknown level
// counts as info.
func NewLogger(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Version names the build: the version given when it was linked or else the
// module's, the commit it was built from, and the Go release.
func Version(linked string) string {
	version, commit, release := linked, "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		release = info.GoVersion
		if version == "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value[:min(len(s.Value), 12)] + commit
			case s.Key == "vcs.modified" && s.Value == "true":
				commit += " with changes"
			}
		}
	}
	if version == "" {
		version = "(devel)"
	}
	text := "posthorn " + version
	if commit != "" {
		text += ", commit " + commit
	}
	return text + ", " + release
}
