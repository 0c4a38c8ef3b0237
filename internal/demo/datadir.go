package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"posthorn/internal/app"
)

// markerName is the file that says whose directory it is: only what a demo has
// made is ever emptied.
const markerName = ".posthorn-demo"

// prepareDir makes the data directory, or empties that of an earlier demo.
func prepareDir(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the demo's data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the demo's data directory: %w", err)
	}
	marker := filepath.Join(dir, markerName)
	if len(entries) == 0 {
		if err := os.WriteFile(marker, []byte("The demo empties this directory each time it starts.\n"), 0o600); err != nil {
			return fmt.Errorf("marking the demo's data directory: %w", err)
		}
		return nil
	}
	if _, err := os.Lstat(marker); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds files that no demo has made, and a demo begins by emptying its directory: give it another by --data-dir", dir)
	} else if err != nil {
		return fmt.Errorf("reading the demo's data directory: %w", err)
	}
	if admin := running(ctx, dir); admin != "" {
		return fmt.Errorf("another demo is running in %s (%s): end it, or give this one another directory by --data-dir", dir, admin)
	}
	for _, e := range entries {
		if e.Name() == markerName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("emptying the demo's data directory: %w", err)
		}
	}
	return nil
}

// running returns the admin port of the line that runs on the directory, or "".
func running(ctx context.Context, dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "addresses.json"))
	if err != nil {
		return "" // a line that ended has removed it
	}
	var a app.Addresses
	if json.Unmarshal(text, &a) != nil || a.Admin == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Admin+"/healthz", nil)
	if err != nil {
		return ""
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "" // it was killed
	}
	resp.Body.Close()
	return a.Admin
}
