package filter

import (
	"fmt"
	"math"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
)

const (
	// MaxExpression is how many characters an expression may have.
	MaxExpression = 4096
	// MaxCost is the most that one evaluation may cost, in CEL's own units: about
	// one for each operation, and one for every ten characters compared.
	MaxCost = 100_000

	// maxDepth is how deep an expression may be nested.
	maxDepth = 64
	// What an estimate takes the payload's lists and maps, and texts, to be: the
	// true ones are counted when the expression runs.
	assumedItems, assumedChars = 500, 10_000
)

// Error says what is wrong with an expression, and where.
type Error struct {
	// Line and Column count from 1; both are 0 where it is about the whole.
	Line, Column int
	Problem      string
}

// Error returns "line:column: problem".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Problem)
}

// environment is what all expressions have in common.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("type", cel.StringType),
		cel.Variable("source", cel.StringType),
		cel.Variable("subject", cel.StringType),
		cel.Variable("id", cel.StringType),
		cel.Variable("tenant", cel.StringType),
		cel.Variable("time", cel.TimestampType),
		cel.Variable("extension", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("data", cel.DynType),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxDepth),
		// 3 > data.n is meant as it reads: the numbers of JSON are doubles.
		cel.CrossTypeNumericComparisons(true),
	)
})

// Program is an expression. It is compiled when it is first needed, and safe for
// concurrent use.
type Program struct {
	source  string
	compile func() (cel.Program, error)
}

// New returns an expression that nothing has been asked of yet.
func New(source string) *Program {
	return &Program{source: source, compile: sync.OnceValues(func() (cel.Program, error) { return compiled(source) })}
}

// Source returns the expression as it was written.
func (p *Program) Source() string { return p.source }

// Compile checks an expression. The error is an [*Error].
func Compile(source string) error {
	_, err := compiled(source)
	return err
}

func compiled(source string) (cel.Program, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("making CEL's environment: %w", err)
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		e := &Error{Problem: first.Message}
		if line := first.Location.Line(); line > 0 {
			e.Line, e.Column = line, max(first.Location.Column()+1, 1)
		}
		return nil, e
	}
	// What hangs on the payload alone has no type before it is there.
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, &Error{Line: 1, Column: 1, Problem: fmt.Sprintf("it is of type %s, and must be true or false", out)}
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, &Error{Problem: fmt.Sprintf("its cost can't be estimated: %v", err)}
	}
	if estimate.Max > MaxCost {
		most := "without a bound"
		if estimate.Max < math.MaxUint64 {
			most = fmt.Sprint(estimate.Max)
		}
		return nil, &Error{Problem: fmt.Sprintf("it may cost too much: up to %s, at most %d are allowed; loops within loops, and loops that build lists, cost most", most, MaxCost)}
	}
	program, err := env.Program(ast, cel.CostLimit(MaxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Problem: err.Error()}
	}
	return program, nil
}

// sizes are the estimator's assumptions.
type sizes struct{}

// EstimateSize implements [cost.Estimator].
func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if len(node.Path()) == 0 {
		return nil
	}
	most := uint64(assumedItems)
	if node.Type().IsExactType(cel.StringType) {
		most = assumedChars
	}
	s := cost.RangedSizeEstimate(0, most)
	return &s
}

// EstimateCallCost implements [cost.Estimator].
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
