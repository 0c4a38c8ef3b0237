package filter

import (
	"errors"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// Trouble says why an expression could not decide. The set is closed: it is a
// metric label.
type Trouble string

// The troubles; "" is none.
const (
	TroubleInvalid Trouble = "invalid"  // it doesn't compile: another version of this program registered it
	TroubleCost    Trouble = "cost"     // it cost more than [MaxCost]
	TroubleData    Trouble = "data"     // it asks for data, and that is no JSON
	TroubleNotBool Trouble = "not_bool" // it came to something else than true or false
	TroubleError   Trouble = "error"    // any other: a division by zero, a comparison of what doesn't compare
)

// Troubles are all of them.
func Troubles() []Trouble {
	return []Trouble{TroubleInvalid, TroubleCost, TroubleData, TroubleNotBool, TroubleError}
}

// Wants evaluates the expression. Whatever goes wrong means no; a field that
// isn't there is no trouble.
func (p *Program) Wants(e *Event) (bool, Trouble) {
	program, err := p.compile()
	if err != nil {
		return false, TroubleInvalid
	}
	value, _, err := program.Eval(e)
	if err != nil {
		return false, troubleOf(err, e)
	}
	wanted, ok := value.(types.Bool)
	if !ok {
		return false, TroubleNotBool
	}
	return bool(wanted), ""
}

func troubleOf(err error, e *Event) Trouble {
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled):
		return TroubleCost
	case e.err != nil:
		return TroubleData
	case missing(err):
		return ""
	}
	return TroubleError
}

// missing reports whether an error is that a field or an item isn't there. CEL
// has no exported type for it; a test holds its words.
func missing(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "no such key") || strings.HasPrefix(text, "no such attribute") || strings.HasPrefix(text, "index out of bounds")
}
