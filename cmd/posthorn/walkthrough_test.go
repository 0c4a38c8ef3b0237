package main

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
)

// A walk-through is a document in Markdown whose fenced blocks are what is typed
// (sh) and what is seen then (text), in the reader's own terminal or in one that
// the block names: "sh receiver".

// block is a fenced block of a walk-through.
type block struct {
	line     int    // of its fence in the document
	terminal string // "" is the reader's own
	typed    bool   // otherwise seen
	text     string
}

func (b *block) String() string { return fmt.Sprintf("line %d", b.line) }

var (
	fence      = regexp.MustCompile("^ {0,3}(```+|~~~+) *(.*?) *$")
	inlineCode = regexp.MustCompile("`([^`\n]+)`")
	aCommand   = regexp.MustCompile(`^(\S*/)?(posthorn|make|curl|jq|python3|cd|export|go) `)
)

// blocks returns what is typed and seen in a walk-through. What a reader could take
// for something to type and is not in such a block is an error.
func blocks(document string) (found []block, err error) {
	var open *block
	var prose []string
	up := map[string]bool{"": true} // terminals that something was typed in
	for i, line := range strings.Split(document, "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case open != nil && mark != nil && mark[2] == "":
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case mark == nil && (strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")):
			return nil, fmt.Errorf("line %d: an indented block: fence it, as sh or text", i+1)
		case mark == nil:
			prose = append(prose, line)
		default:
			kind, terminal, _ := strings.Cut(mark[2], " ")
			if kind != "sh" && kind != "text" {
				return nil, fmt.Errorf("line %d: a block of %q: want sh for what is typed, or text for what is seen then", i+1, mark[2])
			}
			if kind == "text" && !up[terminal] {
				return nil, fmt.Errorf("line %d: nothing was typed in terminal %q yet", i+1, terminal)
			}
			up[terminal] = true
			open = &block{line: i + 1, terminal: terminal, typed: kind == "sh"}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%v: the block has no end", open)
	}
	var typed strings.Builder
	for i := range found {
		b := &found[i]
		if !b.typed {
			continue
		}
		typed.WriteString(b.text)
		if b.terminal != "" && (i+1 == len(found) || found[i+1].typed || found[i+1].terminal != b.terminal) {
			return nil, fmt.Errorf("%v: what is seen in terminal %q has to follow, so that it is known to be up", b, b.terminal)
		}
	}
	for _, code := range inlineCode.FindAllStringSubmatch(strings.Join(prose, "\n"), -1) {
		if aCommand.MatchString(code[1]) && !strings.Contains(typed.String(), code[1]) {
			return nil, fmt.Errorf("the command `%s` is in no block", code[1])
		}
	}
	return found, nil
}

// seer finds what a document shows on a screen. What differs from run to run stands
// for itself in the document: an ID or a time of a run for another one, which is the
// same wherever it is; times, ports, secrets, durations and numbers with decimals
// for any.
type seer struct{ same map[string]string }

// varying are the parts of a line that differ from run to run, by kind; the first
// three are the same wherever they are the same in the document.
var varying = regexp.MustCompile(`\b((?:dlv|ep|rpl|key)_[a-z2-7]{16,26})\b` +
	`|\b(1\d{12})\b` + // a run, in Unix milliseconds
	`|(\bwhsec_[A-Za-z0-9+/=]+)` +
	`|(\d{4}-\d\d-\d\dT\d\d:\d\d[0-9:.]*Z)` +
	`|(\b\d\d:\d\d:\d\d\.\d{3}\b)` +
	`|(\b127\.0\.0\.1:\d+)` +
	`|(took=\S+ rate=\S+)` +
	`|(\b\d+\.\d+\b)` +
	`|(…)` +
	`|( {2,})`)

var kinds = []string{"", `(?:dlv|ep|rpl|key)_[a-z2-7]+`, `1\d{12}`, `whsec_[A-Za-z0-9+/=]+`, `\d{4}-\d\d-\d\dT\d\d:\d\d[0-9:.]*Z`,
	`\d\d:\d\d:\d\d\.\d{3}`, `127\.0\.0\.1:\d+`, `took=\S+ rate=\S+`, `\d+\.\d+`, `.*`, ` +`}

const repeatable = 3 // kinds

// line reports whether a line of the screen is what the document shows.
func (s *seer) line(shown, seen string) bool {
	var pattern strings.Builder
	var names []string // of the groups
	end := 0
	for _, m := range varying.FindAllStringSubmatchIndex(shown, -1) {
		pattern.WriteString(regexp.QuoteMeta(shown[end:m[0]]))
		end = m[1]
		kind := 1
		for m[2*kind] < 0 {
			kind++
		}
		name := shown[m[0]:m[1]]
		switch known, ok := s.same[name]; {
		case kind > repeatable:
			pattern.WriteString(kinds[kind])
		case ok:
			pattern.WriteString(regexp.QuoteMeta(known))
		default:
			pattern.WriteString("(" + kinds[kind] + ")")
			names = append(names, name)
		}
	}
	pattern.WriteString(regexp.QuoteMeta(shown[end:]))
	found := regexp.MustCompile("^" + pattern.String() + " *$").FindStringSubmatch(seen)
	if found == nil {
		return false
	}
	same := maps.Clone(s.same)
	for i, name := range names {
		for shown, other := range same {
			if (shown == name) != (other == found[i+1]) { // one for two, or two for one
				return false
			}
		}
		same[name] = found[i+1]
	}
	s.same = same
	return true
}

// see returns how many bytes of the screen the document shows, and the first line
// of it that isn't there. A line of … stands for any number of lines.
func (s *seer) see(shown, screen string) (end int, missing string) {
	before := s.same
	skip := false
	for want := range strings.Lines(shown) {
		want = strings.TrimRight(want, "\n")
		if want == "…" {
			skip = true
			continue
		}
		for {
			got, _, whole := strings.Cut(screen[end:], "\n")
			if !whole {
				s.same = before
				return 0, want
			}
			end += len(got) + 1
			if s.line(want, got) {
				break
			}
			if !skip {
				s.same = before
				return 0, want
			}
		}
		skip = false
	}
	if skip {
		end = len(screen)
	}
	return end, ""
}

func TestWhatAReaderCouldTypeIsInABlockThatIsRun(t *testing.T) {
	const good = "Type:\n\n```sh\nposthorn version\n```\n\n```text\nposthorn (devel)\n```\n\nso `posthorn version` and `sh`\n"
	if found, err := blocks(good); err != nil || len(found) != 2 || found[0].text != "posthorn version\n" || !found[0].typed || found[1].typed || found[1].line != 7 {
		t.Errorf("%v, %v", found, err)
	}
	for more, want := range map[string]string{
		"```\nposthorn version\n```\n":                           "line 12: a block of",
		"```console\n$ posthorn version\n```\n":                  "line 12: a block of",
		"~~~bash\nposthorn version\n~~~\n":                       "line 12: a block of",
		"\n    posthorn version\n":                               "line 13: an indented block",
		"or `posthorn endpoint list`\n":                          "the command `posthorn endpoint list` is in no block",
		"or `bin/posthorn version`\n":                            "the command `bin/posthorn version` is in no block",
		"```sh\nposthorn version\n":                              "line 12: the block has no end",
		"```text receiver\nlistening\n```\n":                     "line 12: nothing was typed",
		"```sh receiver\nposthorn listen\n```\n":                 "line 12: what is seen",
		"```sh receiver\nposthorn listen\n```\n```text\n\n```\n": "line 12: what is seen",
	} {
		if found, err := blocks(good + more); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v, %v", more, want, found, err)
		}
	}
}

func TestWhatADocumentShowsIsOnTheScreenUpToWhatDiffersFromRunToRun(t *testing.T) {
	const a, b = "dlv_mbxktrvsxpsuz3sn5ik4iukbui", "dlv_coqfgqn5dnt4252gvjnx6ubfry"
	for name, c := range map[string]struct {
		shown, screen string
		end           int // -1: it isn't there
	}{
		"the same":                {"a\nb\n", "a\nb\n", 4},
		"all of it, not a part":   {"a\n", "ab\n", -1},
		"not yet the whole line":  {"a\n", "a", -1},
		"lines between":           {"a\nc\n", "a\nb\nc\n", -1},
		"lines left out":          {"a\n…\nc\n", "a\nb\nc\nd\n", 6},
		"none left out":           {"a\n…\nc\n", "a\nc\n", 4},
		"the rest left out":       {"a\n…\n", "a\nb\nc\n", 6},
		"a part of a line":        {"a … c\n", "a b c\n", 6},
		"what a pattern is":       {"a.b (c)\n", "aXb (c)\n", -1},
		"another ID":              {a + " 1\n", b + " 1\n", 33},
		"one ID for two":          {a + "\n" + a + "\n", a + "\n" + b + "\n", -1},
		"two IDs for one":         {a + "\n" + b + "\n", b + "\n" + a + "\n", 62},
		"two IDs for the same":    {a + "\n" + b + "\n", b + "\n" + b + "\n", -1},
		"one ID for two in line":  {a + " " + a + "\n", a + " " + b + "\n", -1},
		"times, ports, durations": {"12:00:00.000 2026-01-02T03:04:05Z 127.0.0.1:1 took=1ms rate=1/s 0.5\n", "13:01:01.001 2027-01-02T03:04:05.6Z 127.0.0.1:22 took=2s rate=4/s 12.3\n", 71},
		"numbers count":           {"matched=5\n", "matched=6\n", -1},
		"columns":                 {"a  b\n", "a      b  \n", 11},
	} {
		s := seer{map[string]string{}}
		end, missing := s.see(c.shown, c.screen)
		if (c.end < 0) != (missing != "") || c.end >= 0 && end != c.end {
			t.Errorf("%s: %d, missing %q", name, end, missing)
		}
		if missing != "" && len(s.same) != 0 {
			t.Errorf("%s: it was not there and is remembered: %v", name, s.same)
		}
	}
}
