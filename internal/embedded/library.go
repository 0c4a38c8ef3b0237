package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// LibraryVersion is the version of the npm packages @chdb/lib-… that libchdb is
// taken from (scripts/chdb.sh names it once more). The engine in it is ClickHouse
// 26.7.
const LibraryVersion = "26.7.3-stable.1"

// ErrNoLibrary says that libchdb was not found.
var ErrNoLibrary = errors.New("libchdb was not found: make chdb fetches it, and POSTHORN_LIBCHDB can name its path")

// FindLibrary looks for libchdb: at the path in POSTHORN_LIBCHDB, which must exist
// if it is set, then as .cache/chdb/<version>/libchdb.so in the working directory,
// beside the executable and in the directory above it. It looks no further up: what
// it finds becomes part of the process, and others may write there.
func FindLibrary() (string, error) {
	if path := os.Getenv("POSTHORN_LIBCHDB"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("POSTHORN_LIBCHDB: %w", err)
		}
		return path, nil
	}
	from := []string{"."}
	if self, err := os.Executable(); err == nil {
		from = append(from, filepath.Dir(self), filepath.Dir(filepath.Dir(self)))
	}
	for _, dir := range from {
		if path := LibraryIn(dir); path != "" {
			return path, nil
		}
	}
	return "", ErrNoLibrary
}

// LibraryIn is the path of libchdb below a directory's .cache, or empty.
func LibraryIn(dir string) string {
	path := filepath.Join(dir, ".cache", "chdb", LibraryVersion, "libchdb.so")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
