package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// masked is what is shown for a secret that is set.
const masked = "(hidden)"

// Secret is a value that no log, error or listing shows; [Secret.Reveal]
// returns it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns a mask, or "" when the secret isn't set.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString masks the secret in %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue masks the secret in log records.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the secret in JSON, YAML and every other text form.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the secret as it stands.
func (s *Secret) UnmarshalText(b []byte) error { *s = Secret(b); return nil }

// ProxyURL is the URL of an HTTP proxy. Of it only scheme and host are shown,
// wherever it is; [ProxyURL.Reveal] returns all of it.
type ProxyURL string

// Reveal returns the URL with its user and password.
func (u ProxyURL) Reveal() string { return string(u) }

// String returns scheme and host, and a mask in place of a user and password.
// What isn't the URL of a proxy is masked as a whole.
func (u ProxyURL) String() string {
	if u == "" {
		return ""
	}
	p, err := url.Parse(string(u))
	if err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Hostname() == "" {
		return masked
	}
	// A password with an unescaped slash, question mark or hash ends the host
	// early: what looks like one would be the beginning of the password.
	if strings.Contains(p.EscapedPath()+p.RawQuery+p.Fragment, "@") {
		return masked
	}
	if p.User != nil {
		return p.Scheme + "://" + masked + "@" + p.Host
	}
	return p.Scheme + "://" + p.Host
}

// GoString shows as much in %#v.
func (u ProxyURL) GoString() string { return strconv.Quote(u.String()) }

// LogValue shows as much in log records.
func (u ProxyURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText shows as much in JSON, YAML and every other text form.
func (u ProxyURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText takes the URL as it stands; [Config.Validate] judges it.
func (u *ProxyURL) UnmarshalText(b []byte) error { *u = ProxyURL(b); return nil }

// Size is a number of bytes, written as a whole number with a unit: B, KiB,
// MiB, GiB (powers of 1,024) or kB, MB, GB (powers of 1,000). A number without
// a unit is bytes.
type Size int64

// Powers of 1,024 bytes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

var sizeUnits = []struct {
	name  string
	bytes Size
}{
	{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits[:3] {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText returns [Size.String].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of [Size.MarshalText].
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.bytes) {
			break
		}
		*s = Size(n) * u.bytes
		return nil
	}
	return fmt.Errorf("want a size such as 64KiB, 256KiB or 128MiB, got %q", text)
}

// Ports says which ports of receivers may be dialled: "any", or a list.
type Ports struct {
	// Any allows every port; List counts only without it.
	Any  bool
	List []uint16
}

// Allow reports whether a port may be dialled.
func (p Ports) Allow(port uint16) bool {
	if p.Any {
		return true
	}
	return slices.Contains(p.List, port)
}

// MarshalText returns "any" or the ports, comma separated.
func (p Ports) MarshalText() ([]byte, error) {
	if p.Any {
		return []byte("any"), nil
	}
	var b []byte
	for i, port := range p.List {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(port), 10)
	}
	return b, nil
}

// UnmarshalText is the inverse of [Ports.MarshalText].
func (p *Ports) UnmarshalText(b []byte) error {
	if string(b) == "any" {
		*p = Ports{Any: true}
		return nil
	}
	var list []uint16
	for text := range strings.SplitSeq(string(b), ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("want any, or a list of ports from 1 to 65535, got %q", string(b))
		}
		list = append(list, uint16(n))
	}
	*p = Ports{List: list}
	return nil
}

// Start says where a source begins on topics that it has not read before:
// "latest", "earliest", or an RFC 3339 time (records of that time and later).
// The zero value is not a start.
type Start struct {
	// At is "latest", "earliest" or "time".
	At   string
	Time time.Time // with At "time"
}

// The values of [Start.At].
const (
	StartLatest   = "latest"
	StartEarliest = "earliest"
	StartTime     = "time"
)

// MarshalText returns the form of the configuration file.
func (s Start) MarshalText() ([]byte, error) {
	if s.At == StartTime {
		return s.Time.UTC().AppendFormat(nil, time.RFC3339Nano), nil
	}
	return []byte(s.At), nil
}

// UnmarshalText is the inverse of [Start.MarshalText].
func (s *Start) UnmarshalText(b []byte) error {
	switch text := string(b); text {
	case StartLatest, StartEarliest:
		*s = Start{At: text}
		return nil
	default:
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return fmt.Errorf("want latest, earliest or an RFC 3339 time such as 2026-01-31T08:00:00Z, got %q", text)
		}
		*s = Start{At: StartTime, Time: t}
		return nil
	}
}

const day = 24 * time.Hour

// FormatDuration writes a duration as the configuration does: 5s, 1m, 1h30m, and
// whole days as 7d.
func FormatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseDuration reads what [FormatDuration] writes, and whole weeks: 2w. Days and
// weeks may be up to a hundred years. The error says what would be right.
func ParseDuration(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		digits, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil && n <= uint64(36500*day/unit) {
			return time.Duration(n) * unit, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 5s, 1m, 24h, 7d or 2w, got %q", text)
	}
	return d, nil
}
