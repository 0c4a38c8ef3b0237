package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signalError is the cause of a context that a signal has cancelled.
type signalError struct {
	signal syscall.Signal
}

func (e *signalError) Error() string { return e.signal.String() }

// exitCode is what a shell reports of a process that a signal has ended.
func (e *signalError) exitCode() int { return 128 + int(e.signal) }

type signalWatch struct {
	ch   chan os.Signal
	done chan struct{}
}

// watchSignals returns a context that the first SIGINT or SIGTERM cancels. The
// second calls end at once with the exit code of that signal.
func watchSignals(parent context.Context, end func(code int)) (context.Context, *signalWatch) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &signalWatch{ch: make(chan os.Signal, 2), done: make(chan struct{})}
	signal.Notify(w.ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		first := true
		for {
			select {
			case <-w.done:
				cancel(nil)
				return
			case got := <-w.ch:
				s, _ := got.(syscall.Signal) // every signal of this platform is one
				err := &signalError{s}
				if !first {
					end(err.exitCode())
					return
				}
				first = false
				cancel(err)
			}
		}
	}()
	return ctx, w
}

// stop gives signals their default effect back.
func (w *signalWatch) stop() {
	signal.Stop(w.ch)
	close(w.done)
}
