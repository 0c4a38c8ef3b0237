package source

import (
	"fmt"
	"strconv"
)

// maxDepth is how deep arrays and objects may nest. It bounds the scanner's
// recursion, and what the parsers behind it (filters, contracts, receivers)
// are asked to bear.
const maxDepth = 128

// span is a stretch of the scanned bytes; the zero span means "not found", as
// no JSON value is empty.
type span struct{ start, end int }

func (s span) found() bool          { return s.end > s.start }
func (s span) of(doc []byte) []byte { return doc[s.start:s.end] }

// paths is a search tree over JSON Pointers: the scanner walks it alongside the
// document, so that all of them are found in the one pass that validates it.
type paths struct {
	root  node
	nodes int
}

type node struct {
	name     string
	index    int // name as an array index, -1 where it is none
	bit      int // of scanner.seen
	slots    []int
	children []node
}

// add has the value at the pointer's tokens stored in that slot.
func (p *paths) add(slot int, tokens []string) {
	n := &p.root
	for _, t := range tokens {
		i := 0
		for i < len(n.children) && n.children[i].name != t {
			i++
		}
		if i == len(n.children) {
			p.nodes++
			n.children = append(n.children, node{name: t, index: arrayIndex(t), bit: p.nodes})
		}
		n = &n.children[i]
	}
	n.slots = append(n.slots, slot)
}

// arrayIndex reads a pointer token as RFC 6901 section 4 has it: digits without
// leading zeros.
func arrayIndex(t string) int {
	if t == "" || len(t) > 1 && t[0] == '0' {
		return -1
	}
	for i := range len(t) {
		if t[i] < '0' || t[i] > '9' {
			return -1
		}
	}
	n, err := strconv.Atoi(t)
	if err != nil {
		return -1
	}
	return n
}

// maxSlots is the number of attributes that a mapping can point to, and the
// data.
const maxSlots = 8

// scanner validates one JSON text (RFC 8259) and finds values in it. It
// accepts what encoding/json.Valid accepts, up to maxDepth; whether the bytes
// are UTF-8 is checked apart, in one pass that is far quicker than its own.
//
// A member that a path goes through may appear once only: of two, one parser
// takes the first and another the last, and a tenant must not depend on that.
// Members that no path touches are not compared.
type scanner struct {
	doc   []byte
	pos   int
	slots [maxSlots]span
	seen  uint64 // nodes of the search tree that were met

	// member, when set, is called with each member of the outermost object, and
	// isObject tells that the document is one.
	member   func(name string, value span)
	isObject bool

	reason Reason // of the first failure
	detail string
}

func (s *scanner) fail(reason Reason, format string, args ...any) bool {
	if s.reason == "" {
		s.reason, s.detail = reason, fmt.Sprintf(format, args...)
	}
	return false
}

func (s *scanner) syntax(want string) bool {
	if s.pos >= len(s.doc) {
		return s.fail(ReasonJSON, "the JSON ends at byte %d, where %s should be", s.pos, want)
	}
	return s.fail(ReasonJSON, "invalid JSON at byte %d: want %s", s.pos, want)
}

// run scans the whole document.
func (s *scanner) run(root *node) bool {
	s.space()
	s.isObject = s.pos < len(s.doc) && s.doc[s.pos] == '{'
	if !s.value(root, 0) {
		return false
	}
	s.space()
	if s.pos != len(s.doc) {
		return s.syntax("the end")
	}
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.doc) {
		switch s.doc[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) take(c byte) bool {
	if s.pos < len(s.doc) && s.doc[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// value scans the value that begins at pos. n is the node of the search tree
// that it belongs to, nil where no path leads.
func (s *scanner) value(n *node, depth int) bool {
	start := s.pos
	if start >= len(s.doc) {
		return s.syntax("a value")
	}
	ok := false
	switch c := s.doc[start]; {
	case c == '"':
		_, ok = s.str()
	case c == '{':
		ok = s.object(n, depth+1)
	case c == '[':
		ok = s.array(n, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		ok = s.number()
	case c == 't':
		ok = s.literal("true")
	case c == 'f':
		ok = s.literal("false")
	case c == 'n':
		ok = s.literal("null")
	default:
		ok = s.syntax("a value")
	}
	if ok && n != nil {
		for _, slot := range n.slots {
			s.slots[slot] = span{start, s.pos}
		}
	}
	return ok
}

func (s *scanner) deep(depth int) bool {
	if depth > maxDepth {
		return !s.fail(ReasonDepth, "nested deeper than %d levels at byte %d", maxDepth, s.pos)
	}
	return false
}

func (s *scanner) object(n *node, depth int) bool {
	if s.deep(depth) {
		return false
	}
	s.pos++ // the brace
	s.space()
	if s.take('}') {
		return true
	}
	for {
		at := s.pos
		escaped, ok := s.str()
		if !ok {
			return false
		}
		name := span{at + 1, s.pos - 1}.of(s.doc)
		s.space()
		if !s.take(':') {
			return s.syntax("a colon")
		}
		s.space()

		var child *node
		if n != nil && len(n.children) > 0 {
			if child, ok = s.enter(n, name, escaped); !ok {
				return false
			}
		}
		begin := s.pos
		if !s.value(child, depth) {
			return false
		}
		if s.member != nil && depth == 1 {
			plain, ok := unquote(name, escaped)
			if !ok {
				return s.fail(ReasonAttribute, "a member name at byte %d has an unpaired surrogate", at)
			}
			s.member(plain, span{begin, s.pos})
		}
		s.space()
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return s.syntax("a comma or a closing brace")
		}
		s.space()
	}
}

// enter finds the child that a member leads to, and refuses to meet it twice.
func (s *scanner) enter(n *node, name []byte, escaped bool) (*node, bool) {
	if escaped {
		plain, ok := unquote(name, true)
		if !ok {
			return nil, true // no pointer holds an unpaired surrogate
		}
		name = []byte(plain)
	}
	for i := range n.children {
		child := &n.children[i]
		if child.name != string(name) {
			continue
		}
		if s.seen&(1<<child.bit) != 0 {
			return nil, s.fail(ReasonDuplicate, "member %.64q appears twice, again before byte %d", child.name, s.pos)
		}
		s.seen |= 1 << child.bit
		return child, true
	}
	return nil, true
}

func (s *scanner) array(n *node, depth int) bool {
	if s.deep(depth) {
		return false
	}
	s.pos++ // the bracket
	s.space()
	if s.take(']') {
		return true
	}
	for i := 0; ; i++ {
		var child *node
		if n != nil {
			for j := range n.children {
				if n.children[j].index == i {
					child = &n.children[j]
				}
			}
		}
		if !s.value(child, depth) {
			return false
		}
		s.space()
		if s.take(']') {
			return true
		}
		if !s.take(',') {
			return s.syntax("a comma or a closing bracket")
		}
		s.space()
	}
}

func (s *scanner) literal(want string) bool {
	if len(s.doc)-s.pos < len(want) || string(s.doc[s.pos:s.pos+len(want)]) != want {
		return s.syntax(want)
	}
	s.pos += len(want)
	return true
}

// number scans -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return s.syntax("a digit")
	}
	if s.take('.') && !s.digits() {
		return s.syntax("a digit")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.syntax("a digit")
		}
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.doc) && s.doc[s.pos] >= '0' && s.doc[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}
