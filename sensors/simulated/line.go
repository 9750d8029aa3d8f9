package simulated

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/sensors/bus"
)

// Line is a GPIO line: a pin that something outside pulls up or down, or that the machine drives, and
// a record of everything it ever did. All methods are safe for concurrent use.
type Line struct {
	name   string
	record func(Event)

	mu      sync.Mutex
	outside *bool // what the world drives the pin to; nil if nothing is connected
	level   bool  // at the pin
	opened  *openLine
	history []Event
	fault   error
	stalled chan struct{} // closed when edges are fetched again; nil while they are
	chips   []func(high bool)
}

// Event is one change at a pin, as an oscilloscope and the device tree together would show it.
type Event struct {
	Time   time.Time
	Line   string // "gpio17"
	Driven bool   // by the machine; false if it is an input, or not requested
	High   bool
}

// historyLength bounds a line's history in memory; the oldest part is forgotten.
const historyLength = 10_000

// Set drives the pin from outside, as a contact or a meter does.
func (l *Line) Set(high bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outside = &high
	if l.opened == nil || !l.opened.driven {
		l.change(false, high)
	}
}

// Pulse drives the pin high and low again, n times in a row.
func (l *Line) Pulse(n int, period time.Duration) {
	for range n {
		time.Sleep(period / 2)
		l.Set(true)
		time.Sleep(period - period/2)
		l.Set(false)
	}
}

// Break makes every access fail with err, until it is nil.
func (l *Line) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

// Stall stops the fetching of edges, as a machine does that is too busy: the kernel's buffer fills,
// and then edges are lost.
func (l *Line) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled == nil {
		l.stalled = make(chan struct{})
	}
}

// Resume ends Stall.
func (l *Line) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled != nil {
		close(l.stalled)
		l.stalled = nil
	}
}

// High is the level at the pin.
func (l *Line) High() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.level
}

// History is every change of level or direction since the line was made, oldest first.
func (l *Line) History() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.history...)
}

// change is called with mu held.
func (l *Line) change(driven, high bool) {
	last := len(l.history) - 1
	if last >= 0 && l.history[last].Driven == driven && l.level == high {
		return
	}
	edge := l.level != high
	l.level = high
	e := Event{time.Now(), l.name, driven, high}
	if last >= historyLength {
		l.history = append(l.history[:0], l.history[historyLength/2:]...)
	}
	l.history = append(l.history, e)
	if l.record != nil {
		l.record(e)
	}
	if edge && l.opened != nil {
		l.opened.settle(high)
	}
	if edge {
		for _, f := range l.chips {
			f(high)
		}
	}
}

// onChange calls f, a chip's, for every change of the level. It may set other lines, but not this one.
func (l *Line) onChange(f func(high bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chips = append(l.chips, f)
}

// openLine is a line that was requested from the kernel.
type openLine struct {
	line   *Line
	o      bus.LineOptions
	driven bool
	both   bool
	seq    uint32
	fifo   chan bus.Edge
	timer  *time.Timer // of the debounce that runs
	state  bool        // the debounced level
	done   chan struct{}
	ended  sync.WaitGroup
}

// fifoLength is the kernel's buffer as sensors/bus asks for it.
const fifoLength = 1024

func (l *Line) open(o bus.LineOptions, driven, active bool) (*openLine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.fault != nil:
		return nil, l.fault
	case l.opened != nil:
		return nil, syscall.EBUSY
	}
	h := &openLine{line: l, o: o, driven: driven, done: make(chan struct{})}
	switch {
	case driven:
		l.change(true, active != o.ActiveLow)
	case l.outside != nil:
		l.change(false, *l.outside)
	case o.Bias == bus.BiasPullUp:
		l.change(false, true)
	case o.Bias == bus.BiasPullDown:
		l.change(false, false)
	default:
		l.change(false, l.level)
	}
	h.state = l.level
	l.opened = h
	return h, nil
}

// Value is 1 if the line is active.
func (h *openLine) Value() (int, error) {
	l := h.line
	l.mu.Lock()
	defer l.mu.Unlock()
	level := l.level
	if h.o.Debounce > 0 {
		level = h.state
	}
	if level != h.o.ActiveLow {
		return 1, l.fault
	}
	return 0, l.fault
}

// SetValue drives the line.
func (h *openLine) SetValue(active int) error {
	l := h.line
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.fault != nil:
		return l.fault
	case !h.driven:
		return syscall.EPERM
	}
	l.change(true, (active != 0) != h.o.ActiveLow)
	return nil
}

// Close gives the line back. The pin keeps its level, as it does on a Pi unless something pulls it.
func (h *openLine) Close() error {
	l := h.line
	l.mu.Lock()
	if l.opened != h {
		l.mu.Unlock()
		return nil
	}
	l.opened = nil
	l.change(false, l.level)
	if h.timer != nil {
		h.timer.Stop()
	}
	l.mu.Unlock()
	close(h.done)
	h.ended.Wait()
	return nil
}

// settle takes a new level, at once or after the debounce. Called with the line's mu held.
func (h *openLine) settle(high bool) {
	if h.o.Debounce <= 0 {
		h.edge(high)
		return
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(h.o.Debounce, func() {
		h.line.mu.Lock()
		defer h.line.mu.Unlock()
		if h.state != h.line.level && h.line.opened == h {
			h.edge(h.line.level)
		}
	})
}

// edge puts an edge into the kernel's buffer, where the oldest gives way.
func (h *openLine) edge(high bool) {
	h.state = high
	rising := high != h.o.ActiveLow
	if h.fifo == nil || !rising && !h.both {
		return
	}
	h.seq++
	e := bus.Edge{Rising: rising, Time: time.Now(), Seq: h.seq}
	for {
		select {
		case h.fifo <- e:
			return
		default:
		}
		select {
		case <-h.fifo:
		default:
		}
	}
}

// fetch hands edges to who asked for them.
func (h *openLine) fetch(edge func(bus.Edge)) {
	for {
		h.line.mu.Lock()
		stalled := h.line.stalled
		h.line.mu.Unlock()
		if stalled != nil {
			select {
			case <-stalled:
			case <-h.done:
				return
			}
			continue
		}
		select {
		case e := <-h.fifo:
			edge(e)
		case <-h.done:
			return
		}
	}
}

// Output opens a line as an output.
func (p *Pi) Output(o bus.LineOptions, active bool) (bus.Output, error) {
	h, err := p.line(o).open(o, true, active)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Edges opens a line as an input with edges.
func (p *Pi) Edges(o bus.LineOptions, both bool, edge func(bus.Edge)) (bus.Line, error) {
	h, err := p.line(o).open(o, false, false)
	if err != nil {
		return nil, err
	}
	h.line.mu.Lock()
	h.both, h.fifo = both, make(chan bus.Edge, fifoLength)
	h.line.mu.Unlock()
	h.ended.Go(func() { h.fetch(edge) })
	return h, nil
}

// Input opens a line as an input.
func (p *Pi) Input(o bus.LineOptions) (bus.Line, error) {
	h, err := p.line(o).open(o, false, false)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// GPIO returns a line of the header, for its level to be set and its history to be read.
func (p *Pi) GPIO(offset int) *Line { return p.line(bus.LineOptions{Offset: offset}) }

func (p *Pi) line(o bus.LineOptions) *Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.named(fmt.Sprintf("%sgpio%d", strings.ReplaceAll(o.Chip, " ", "-"), o.Offset))
}

// named is called with mu held.
func (p *Pi) named(name string) *Line {
	l := p.lines[name]
	if l == nil {
		l = &Line{name: name, record: p.record}
		p.lines[name] = l
	}
	return l
}
