package sensors

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFiltersStayWithinWhatWasMeasured: of any finite values, also those whose sum is beyond a float64, a smoothed
// one is finite, is not beyond the largest and smallest of them, and spoils none that come later.
func TestFiltersStayWithinWhatWasMeasured(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 3))
	random := func() float64 {
		for {
			switch rng.IntN(4) {
			case 0:
				return math.MaxFloat64
			case 1:
				return -math.MaxFloat64
			}
			if v := math.Float64frombits(rng.Uint64()); !math.IsNaN(v) && !math.IsInf(v, 0) {
				return v
			}
		}
	}
	for _, kind := range []FilterKind{FilterNone, FilterMedian, FilterMean, FilterExponential} {
		for _, n := range []int{2, 3, 7} {
			p := pipe{Processing: Processing{Filter: Filter{Kind: kind, N: n}}, every: time.Second}
			if kind == FilterNone {
				p.Filter.N = 0
			}
			low, high := math.Inf(1), math.Inf(-1)
			at := time.Now()
			for i := range 2000 {
				v := random()
				low, high = min(low, v), max(high, v)
				if got := p.smoothed(v, at); math.IsNaN(got) || got < low || got > high {
					t.Fatalf("%s of %d: value %d, %v, gives %v", kind, n, i, v, got)
				}
				at = at.Add(time.Second)
			}
			for range 3000 {
				p.smoothed(2.5, at)
			}
			if got := p.smoothed(2.5, at); math.Abs(got-2.5) > 1e-9 {
				t.Errorf("%s of %d: %v after 3000 times 2.5", kind, n, got)
			}
		}
	}
}

// TestRoundedHasNoMoreDigits: a rounded value is the nearest multiple of its step, printed with the decimals of the step.
func TestRoundedHasNoMoreDigits(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 4))
	decimals := func(v float64) int {
		_, after, _ := strings.Cut(strconv.FormatFloat(v, 'f', -1, 64), ".")
		return len(after)
	}
	for _, step := range []float64{0.1, 0.2, 0.3, 0.25, 0.5, 0.05, 0.01, 0.001, 0.007, 1e-6, 1e-9, 1, 3, 20, 1000, 2.5} {
		for range 2000 {
			v := (rng.Float64() - 0.5) * step * math.Pow(10, float64(rng.IntN(7)))
			got := roundTo(v, step)
			if math.Abs(got-v) > step*0.500001 || decimals(got) > decimals(step) {
				t.Fatalf("%v rounded to %v is %v", v, step, got)
			}
		}
	}
	for _, tt := range [][3]float64{
		{0.31, 0.1, 0.3}, {-0.04, 0.1, 0}, {1e300, 0.1, 1e300}, {-math.MaxFloat64, 1e-9, -math.MaxFloat64}, {5e-324, 0.1, 0}, {4e-8, 1e-8, 4e-8},
		{math.MaxFloat64, 1e308, math.Inf(1)},
	} {
		if got := roundTo(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%v rounded to %v is %v, want %v", tt[0], tt[1], got, tt[2])
		}
	}
}
