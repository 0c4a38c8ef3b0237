package config

import (
	"errors"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxNesting is far above what a configuration needs. The parser's memory grows
// with the square of the depth: a megabyte of opening brackets takes all there is.
const maxNesting = 1000

// nestedTooDeep judges a text before it is parsed: open brackets, and the
// dashes and question marks that begin a line. It takes brackets in quotes and
// comments for real ones, which so high a limit forgives.
func nestedTooDeep(text []byte) bool {
	brackets, dashes, leading := 0, 0, true
	for _, c := range text {
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(0, brackets-1)
		case '-', '?':
			if leading {
				dashes++
			}
		}
		if brackets > maxNesting || dashes > maxNesting {
			return true
		}
		switch c {
		case '\n':
			dashes, leading = 0, true
		case ' ', '\t', '-', '?':
		default:
			leading = false
		}
	}
	return false
}

// parseYAML turns a panic of the parser into an error.
func parseYAML(text []byte) (file *ast.File, err error) {
	defer func() {
		if recover() != nil { // its words may quote the file
			file, err = nil, errors.New("the parser failed")
		}
	}()
	// A key that is there twice is listed beside the other mistakes.
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}
