package sensors

import (
	"math/rand/v2"
	"time"
)

const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// schedule is when a sensor is read.
type schedule struct {
	phase time.Time // of the grid on which first readings are planned
	first time.Time // of the grid of readings
	slot  time.Time // of the next reading, on the grid unless it follows a failure
	due   time.Time // of the next call for it: the slot, or later if the chip was not ready
}

// plan begins the grid of readings at the next step of the common phase. Those of sensors that are planned
// together so fall together, and the processor wakes up once for all of them.
func (p *supervised) plan() {
	step := max(1, min(maxJitter, p.config.Every/10))
	now := time.Now()
	p.first = now.Add(step - now.Sub(p.phase)%step)
	p.planAt(p.first)
}

func (p *supervised) planAt(t time.Time) { p.slot, p.due = t, t }

// onGrid plans the next reading after one that succeeded. Those that were missed in between are counted, and not made
// up for.
func (p *supervised) onGrid() {
	every, next := p.config.Every, p.nextOnGrid()
	missed := uint64(0)
	if p.slot.Sub(p.first)%every == 0 {
		missed = uint64(max(0, next.Sub(p.slot)/every-1))
	}
	p.planAt(next)
	p.counts.missed.Add(missed)
	p.keepsUp(missed)
}

// keepsUp notes that one reading was taken and others before the next one were missed, and logs when a sensor begins
// or ends to miss many.
func (p *supervised) keepsUp(missed uint64) {
	behind, known := p.pace.add(missed, time.Now(), p.config.Every)
	if !known {
		return
	}
	switch was := p.counts.behind.Swap(behind); {
	case behind && !was:
		p.log.Warn("readings are missed: the bus, the sensor or the processor is too slow for this interval: set every higher", "every", p.config.Every)
	case was && !behind:
		p.log.Info("readings are no longer missed")
	}
}

func (p *supervised) nextOnGrid() time.Time {
	every := p.config.Every
	return p.first.Add((time.Since(p.first)/every + 1) * every)
}

// retry plans the next reading after a failure: sooner than the interval at first, later after many.
func (p *supervised) retry() {
	p.planAt(time.Now().Add(Backoff(p.failures)))
}

// Backoff returns how long to wait after a number of failures in a row, 1 or more: between half of a ceiling and the
// ceiling, which doubles from 1 s to 1 min, so that devices which failed together are not tried together.
func Backoff(failures int) time.Duration {
	ceiling := min(maxBackoff, minBackoff<<min(failures-1, 6))
	return ceiling/2 + rand.N(ceiling/2+1)
}
