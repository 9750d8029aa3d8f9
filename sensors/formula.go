package sensors

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// Formula is an expression of x, the measured value, and of the other quantities of the same reading by
// their names: "x * 1.8 + 32". It has arithmetic, comparisons, a ? b : c, and abs, ceil, floor, round,
// min, max, sqrt, exp, log and pow. There are no loops and its size is bounded, so that it always ends.
type Formula struct {
	text    string
	program *vm.Program
	needs   []string // quantities, without x
}

const (
	maxFormula = 500 // bytes
	maxNodes   = 200
)

// plainFormula has no brackets, braces, quotes or semicolons: no lists, loops, texts or statements.
var plainFormula = regexp.MustCompile(`^[A-Za-z0-9_+\-*/%^().,<>=!?:&|\s]*$`)

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// NewFormula compiles a formula for a sensor with those quantities; nil if they are not known, and then
// it has only x.
func NewFormula(text string, quantities []Quantity) (*Formula, error) {
	if len(text) > maxFormula {
		return nil, fmt.Errorf("the formula is longer than %d bytes", maxFormula)
	}
	if !plainFormula.MatchString(text) || strings.Contains(text, "..") {
		return nil, errors.New("the formula has something else than numbers, names, operators and parentheses")
	}
	env := map[string]any{"x": 0.0}
	for _, q := range quantities {
		if identifier.MatchString(q.Name) {
			env[q.Name] = 0.0
		}
	}
	opts := []expr.Option{
		expr.Env(env), expr.AsFloat64(), expr.MaxNodes(maxNodes), expr.Optimize(false), expr.DisableAllBuiltins(),
	}
	for _, name := range []string{"abs", "ceil", "floor", "round", "min", "max"} {
		opts = append(opts, expr.EnableBuiltin(name))
	}
	for name, f := range map[string]func(float64) float64{"sqrt": math.Sqrt, "exp": math.Exp, "log": math.Log} {
		opts = append(opts, function(name, 1, func(v []float64) float64 { return f(v[0]) }))
	}
	opts = append(opts, function("pow", 2, func(v []float64) float64 { return math.Pow(v[0], v[1]) }))
	p, err := expr.Compile(text, opts...)
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("the formula is wrong: %s", reason)
	}
	f := &Formula{text: text, program: p}
	node := p.Node()
	ast.Walk(&node, visitor(func(name string) {
		if _, ok := env[name]; ok && name != "x" {
			f.needs = append(f.needs, name)
		}
	}))
	return f, nil
}

// visitor is called with the names in a formula.
type visitor func(name string)

func (v visitor) Visit(node *ast.Node) {
	if n, ok := (*node).(*ast.IdentifierNode); ok {
		v(n.Value)
	}
}

// has reports whether measurements have all quantities that f needs.
func (f *Formula) has(all []Measurement) bool {
	for _, name := range f.needs {
		if !slices.ContainsFunc(all, func(m Measurement) bool { return m.Quantity == name }) {
			return false
		}
	}
	return true
}

func (f *Formula) String() string { return f.text }

var errNumbers = errors.New("wants numbers")

// function makes a function of n numbers known to formulas.
func function(name string, n int, f func([]float64) float64) expr.Option {
	call := func(args ...any) (any, error) {
		v := make([]float64, len(args))
		for i, a := range args {
			switch a := a.(type) {
			case float64:
				v[i] = a
			case int:
				v[i] = float64(a)
			default:
				return nil, fmt.Errorf("%s %w", name, errNumbers)
			}
		}
		return f(v), nil
	}
	type one = func(float64) float64
	type two = func(float64, float64) float64
	if n == 1 {
		return expr.Function(name, call, new(one), new(func(int) float64))
	}
	return expr.Function(name, call, new(two), new(func(int, float64) float64), new(func(float64, int) float64), new(func(int, int) float64))
}

func (f *Formula) eval(x float64, all []Measurement) (float64, error) {
	env := make(map[string]any, len(all)+1)
	for _, m := range all {
		env[m.Quantity] = m.Value
	}
	env["x"] = x
	v, err := expr.Run(f.program, env)
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		return 0, fmt.Errorf("%w: formula %s: %s", ErrImplausible, f.text, reason)
	}
	return v.(float64), nil
}
