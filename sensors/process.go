package sensors

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Processing is what becomes of the values of one quantity on their way from the driver to a reading,
// in the order of the fields. The zero value does nothing. Nothing here makes a value when there is no
// new one: an output follows only from a fresh measurement, and carries its time.
type Processing struct {
	// As and Unit take the place of the quantity's name and unit, for what was calibrated to something
	// else: the voltage of a probe to moisture.
	As, Unit  string
	Calibrate Calibration
	// Limits are those of the calibrated value. They take the place of the driver's own.
	Limits *Limits
	Filter Filter
	Round  float64 // to a multiple of this; 0 means not at all
	Report Report
}

// Calibration turns a value into another one: with a formula, or with a table of points, or by scale and
// offset.
type Calibration struct {
	Scale  float64 // 0 means 1
	Offset float64 // is added after the scale
	// Points are pairs of measured and true, ascending by the first. Between two of them values lie on
	// the line through both, and beyond the ends on the line through the last two.
	Points  [][2]float64
	Formula *Formula // nil means none
}

// Limits are the values that can be true, inclusive.
type Limits struct{ Min, Max float64 }

// FilterKind is a way to smooth.
type FilterKind string

// The kinds of filters.
const (
	FilterNone        FilterKind = ""
	FilterMedian      FilterKind = "median"
	FilterMean        FilterKind = "mean"
	FilterExponential FilterKind = "exponential"
)

// Filter smooths over the last N values: the exponential one with a weight of 2/(N+1) for the newest.
// Values from before a gap of more than N intervals do not count, so nothing is smoothed over an outage.
type Filter struct {
	Kind FilterKind
	N    int
}

// Report selects the readings that are reported: those that differ from the last reported one by at least
// OnChange (0: at all), and so many of the others that no step between two reported ones is longer than AtLeastEvery
// (0: none for that reason alone), unless readings are further apart. The first one after a failure is always reported.
type Report struct {
	On           bool
	OnChange     float64
	AtLeastEvery time.Duration
}

// pipe processes one quantity of one sensor.
type pipe struct {
	Processing
	every time.Duration

	values []float64 // of the filter, newest last
	smooth float64   // of the exponential filter
	last   time.Time // of the newest value

	slot       time.Time // of the last reading
	reported   bool
	reportedAt time.Time // its slot
	value      float64   // that was reported last
}

// convert calibrates and checks v, which is one of all measurements of a reading.
func (p *pipe) convert(v float64, q Quantity, all []Measurement) (float64, error) {
	limits := p.Limits
	if limits == nil && (q.Min != 0 || q.Max != 0) && (v < q.Min || v > q.Max) {
		return 0, OutOfRange(q.Name, v, q.Unit, q.Min, q.Max)
	}
	v, err := p.Calibrate.apply(v, all)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", q.Name, err)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%w: %s is %v after its calibration", ErrImplausible, q.Name, v)
	}
	if limits != nil && (v < limits.Min || v > limits.Max) {
		return 0, OutOfRange(q.Name, v, p.unit(q), limits.Min, limits.Max)
	}
	return v, nil
}

func (p *pipe) unit(q Quantity) string {
	if p.Unit != "" {
		return p.Unit
	}
	return q.Unit
}

// smoothed filters and rounds a value of time at. The result is infinite if the rounded value is too large for a float64.
func (p *pipe) smoothed(v float64, at time.Time) float64 {
	if p.last.IsZero() || p.Filter.N > 0 && at.Sub(p.last) > time.Duration(p.Filter.N)*p.every {
		p.values, p.smooth = p.values[:0], v
	}
	p.last = at
	v = p.filter(v)
	if p.Round > 0 {
		v = roundTo(v, p.Round)
	}
	return v
}

// roundTo returns the multiple of step that is nearest to v, without the noise of binary fractions: 3 times 0.1 is 0.3.
func roundTo(v, step float64) float64 {
	n := math.Round(v / step)
	if math.Abs(n) >= 1<<53 {
		return v // it has no digits below step
	}
	v = n * step
	if _, decimals, ok := strings.Cut(strconv.FormatFloat(step, 'f', -1, 64), "."); ok {
		v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'f', len(decimals), 64), 64)
	}
	return v
}

// passes reports whether a value is to be reported, and remembers it if it is. slot is when its reading was planned,
// so that how long readings take makes no step longer or shorter.
func (p *pipe) passes(v float64, slot time.Time) bool {
	step := p.every // until the next reading: as long as the last step, where slots are missed
	if !p.slot.IsZero() {
		step = max(step, slot.Sub(p.slot))
	}
	p.slot = slot
	r := p.Report
	if r.On && p.reported {
		change := math.Abs(v - p.value)
		due := r.AtLeastEvery > 0 && slot.Sub(p.reportedAt)+step > r.AtLeastEvery
		if !due && (change == 0 || change < r.OnChange) {
			return false
		}
	}
	p.reported, p.reportedAt, p.value = true, slot, v
	return true
}

func (p *pipe) filter(v float64) float64 {
	switch p.Filter.Kind {
	case FilterNone:
		return v
	case FilterExponential:
		share := 2 / float64(p.Filter.N+1)
		if d := v - p.smooth; !math.IsInf(d, 0) {
			p.smooth += d * share
		} else {
			p.smooth = between(p.smooth*(1-share) + v*share)
		}
		return p.smooth
	}
	if len(p.values) >= p.Filter.N {
		p.values = append(p.values[:0], p.values[len(p.values)-p.Filter.N+1:]...)
	}
	p.values = append(p.values, v)
	n := len(p.values)
	if p.Filter.Kind == FilterMean {
		sum := 0.0
		for _, v := range p.values {
			sum += v
		}
		if !math.IsInf(sum, 0) && !math.IsNaN(sum) {
			return sum / float64(n)
		}
		sum = 0
		for _, v := range p.values {
			sum += v / float64(n)
		}
		return between(sum)
	}
	sorted := slices.Sorted(slices.Values(p.values))
	a, b := sorted[(n-1)/2], sorted[n/2]
	if sum := a + b; !math.IsInf(sum, 0) {
		return sum / 2
	}
	return a/2 + b/2
}

// between returns a mean of finite values without what rounding has added beyond the largest of all.
func between(mean float64) float64 { return max(-math.MaxFloat64, min(math.MaxFloat64, mean)) }

func (c *Calibration) apply(v float64, all []Measurement) (float64, error) {
	switch {
	case c.Formula != nil:
		return c.Formula.eval(v, all)
	case len(c.Points) > 1:
		i := 1 + slices.IndexFunc(c.Points[1:len(c.Points)-1], func(p [2]float64) bool { return v < p[0] })
		if i == 0 {
			i = len(c.Points) - 1
		}
		a, b := c.Points[i-1], c.Points[i]
		return a[1] + (v-a[0])*(b[1]-a[1])/(b[0]-a[0]), nil
	case c.Scale != 0:
		v *= c.Scale
	}
	return v + c.Offset, nil
}
