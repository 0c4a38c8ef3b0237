package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// Version is the release of Apache Kafka that is run.
const Version = "4.3.1"

const (
	minJava      = 17 // Kafka 4 brokers need it
	fetchTimeout = 5 * time.Minute
	requireEnv   = "POSTHORN_REQUIRE_KAFKA"
)

// The dependency plugin is named with its version, so that every Maven does
// the same.
const fetchGoal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// pom lists what the broker needs at run time. Kafka's published artifacts
// carry no logging back end (only its release archive does); the one here is of
// the SLF4J 1.7 line that Kafka 4.3 uses.
const pom = `<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>posthorn</groupId>
  <artifactId>kafkatest</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>` + Version + `</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.3</version>
    </dependency>
  </dependencies>
</project>
`

// errUnavailable says that this machine can't run Kafka.
var errUnavailable = errors.New("Apache Kafka can't run here")

// installation is a directory of jars and the java that runs them.
type installation struct {
	java string
	lib  string
}

// install finds Java, and fetches the jars unless they are there already.
func install(ctx context.Context) (installation, error) {
	java, err := findJava(ctx)
	if err != nil {
		return installation{}, err
	}
	root, err := repoRoot()
	if err != nil {
		return installation{}, err
	}
	dir := filepath.Join(root, ".cache", "kafka-"+Version)
	lib := filepath.Join(dir, "lib")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return installation{}, fmt.Errorf("creating jar directory: %w", err)
	}
	// Test processes of several packages run at once: one fetches, the others wait.
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return installation{}, err
	}
	defer unlock()
	// The directory appears by a rename, so it is whole once it is there.
	if _, err := os.Stat(lib); err == nil {
		return installation{java, lib}, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return installation{}, fmt.Errorf("%w: its jars are not in %s and there is no mvn (Maven 3) to fetch them", errUnavailable, lib)
	}
	if err := fetch(ctx, mvn, dir, lib); err != nil {
		return installation{}, err
	}
	return installation{java, lib}, nil
}

func fetch(ctx context.Context, mvn, dir, lib string) error {
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
		return fmt.Errorf("writing pom.xml: %w", err)
	}
	partial := lib + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("clearing an interrupted fetch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--no-transfer-progress", fetchGoal,
		"-DincludeScope=runtime", "-DoutputDirectory="+partial)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetching the jars of Apache Kafka %s with Maven: %w\n%s", Version, err, tail(out, 4096))
	}
	if err := os.Rename(partial, lib); err != nil {
		return fmt.Errorf("installing the jars: %w", err)
	}
	return nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)(?:\.(\d+))?`)

// findJava prefers JAVA_HOME, as Kafka's own scripts do.
func findJava(ctx context.Context) (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	java, err := exec.LookPath(java)
	if err != nil {
		return "", fmt.Errorf("%w: no java in PATH or JAVA_HOME; Java %d or later is needed", errUnavailable, minJava)
	}
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s -version: %w", errUnavailable, java, err)
	}
	major, ok := parseJavaVersion(out)
	if !ok || major < minJava {
		return "", fmt.Errorf("%w: Java %d or later is needed, %s says: %s", errUnavailable, minJava, java, tail(out, 200))
	}
	return java, nil
}

// parseJavaVersion reads the major version out of "java -version": 1.8 is 8.
func parseJavaVersion(out []byte) (int, bool) {
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return 0, false
	}
	major, _ := strconv.Atoi(string(m[1]))
	if major == 1 && len(m[2]) > 0 {
		major, _ = strconv.Atoi(string(m[2]))
	}
	return major, true
}

// repoRoot is the directory of go.mod, above the package under test.
func repoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the repository: no go.mod above the working directory")
		}
		dir = parent
	}
}

// lockFile takes an exclusive lock, which the kernel drops with the process.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close() // nothing is ever written to it
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

func tail(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}
