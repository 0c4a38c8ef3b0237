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
	"slices"
	"time"

	"posthorn/internal/app"
)

// markerName is the file that says whose directory it is: only what a demo has
// made is ever emptied.
const markerName = ".posthorn-demo"

// prepareDir makes the data directory, or empties that of an earlier demo. It is
// this demo's until the file that is returned, the locked marker, is closed:
// of two that start at once on a directory, one would empty the other's.
func prepareDir(ctx context.Context, dir string) (_ *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the demo's data directory: %w", err)
	}
	marker, err := openMarker(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = marker.Close() // nothing is written that could be lost
		}
	}()
	if taken, err := lock(marker); err != nil {
		return nil, fmt.Errorf("locking the demo's data directory: %w", err)
	} else if !taken {
		return nil, fmt.Errorf("another demo is running in %s: end it, or give this one another directory by --data-dir", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the demo's data directory: %w", err)
	}
	if st, err := marker.Stat(); err != nil {
		return nil, fmt.Errorf("reading the marker of the demo's data directory: %w", err)
	} else if st.Size() == 0 { // no demo has had it yet
		if len(entries) > 1 { // something came since the directory was empty: it isn't ours
			return nil, errors.Join(errForeign(dir), os.Remove(marker.Name()))
		}
		if _, err := marker.WriteString("The demo empties this directory each time it starts.\n"); err != nil {
			return nil, fmt.Errorf("marking the demo's data directory: %w", err)
		}
		return marker, nil
	}
	if admin := running(ctx, dir); admin != "" { // another command's
		return nil, fmt.Errorf("another line is running in %s (%s): end it, or give this demo another directory by --data-dir", dir, admin)
	}
	for _, e := range entries {
		if e.Name() == markerName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("emptying the demo's data directory: %w", err)
		}
	}
	return marker, nil
}

// openMarker opens the marker of an earlier demo, or makes an empty one in an
// empty directory.
func openMarker(dir string) (*os.File, error) {
	name := filepath.Join(dir, markerName)
	st, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("reading the demo's data directory: %w", err)
		}
		// With the marker among them, another demo has just begun.
		if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == markerName }) {
			return nil, errForeign(dir)
		}
	case err != nil:
		return nil, fmt.Errorf("reading the demo's data directory: %w", err)
	case !st.Mode().IsRegular():
		return nil, errForeign(dir)
	}
	marker, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the marker of the demo's data directory: %w", err)
	}
	return marker, nil
}

func errForeign(dir string) error {
	return fmt.Errorf("%s holds files that no demo has made, and a demo begins by emptying its directory: give it another by --data-dir", dir)
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
