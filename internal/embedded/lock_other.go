//go:build !unix

package embedded

import (
	"fmt"
	"os"
)

// lockDir only marks the directory: there is no flock here.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	return f, nil
}
