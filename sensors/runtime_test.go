package sensors

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors/bus"
)

// stalls are the times in which a process is not scheduled, in order and apart from each other.
type stalls [][2]time.Time

// afterFunc is time.AfterFunc of such a process: a timer that ends during a stall fires at the stall's end.
func (s stalls) afterFunc(d time.Duration, f func()) *time.Timer {
	due := time.Now().Add(d)
	for _, stall := range s {
		if !due.Before(stall[0]) && due.Before(stall[1]) {
			due = stall[1]
		}
	}
	return time.AfterFunc(time.Until(due), f)
}

// ran is how long the process has run from a time until another.
func (s stalls) ran(from, to time.Time) time.Duration {
	ran := to.Sub(from)
	for _, stall := range s {
		begin, end := stall[0], stall[1]
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		ran -= max(end.Sub(begin), 0)
	}
	return ran
}

func TestRunTimerCountsTimeInWhichTheProcessRan(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			d := time.Duration(1 + r.Int64N(int64(10*time.Second)))
			tick := min(max(d/ticks, minTick), maxTick)
			var s stalls
			begun := time.Now()
			at := begun
			for range r.IntN(6) {
				at = at.Add(time.Duration(r.Int64N(int64(d))))
				end := at.Add(tick + time.Duration(r.Int64N(int64(4*d)+1)))
				s = append(s, [2]time.Time{at, end})
				at = end
			}
			timer := newRunTimer(s.afterFunc)
			ended := make(chan time.Time)
			timer.start(d, func() { ended <- time.Now() })
			end := <-ended
			ran := s.ran(begun, end)
			if ran > d || ran < d-time.Duration(len(s))*tick {
				t.Errorf("seed %d: %v ended after the process had run for %v with %d stalls, want at most a tick of %v less for each", seed, d, ran, len(s), tick)
			}
			if len(s) == 0 && end.Sub(begun) != d {
				t.Errorf("seed %d: %v took %v without a stall", seed, d, end.Sub(begun))
			}
		})
	}
}

func TestStoppedRunTimerDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timer := newRunTimer(time.AfterFunc)
		timer.start(time.Second, func() { t.Error("called after stop") })
		time.Sleep(900 * time.Millisecond)
		timer.stop()
		timer.start(time.Second, func() { t.Error("started after stop") })
		time.Sleep(time.Hour)
	})
}

func TestWithRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := errors.New("late")
		begun := time.Now()
		ctx, cancel := WithRunTime(t.Context(), time.Second, late)
		<-ctx.Done()
		if took := time.Since(begun); took != time.Second || context.Cause(ctx) != late {
			t.Errorf("ended after %v with %v", took, context.Cause(ctx))
		}
		cancel()
		ctx, cancel = WithRunTime(t.Context(), time.Second, late)
		cancel()
		if err := context.Cause(ctx); err != context.Canceled {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// device is a Sensor that senses with a function.
type device func(context.Context) ([]Measurement, error)

func (d device) Sense(ctx context.Context) ([]Measurement, error) { return d(ctx) }
func (d device) Close() error                                     { return nil }

// TestStalledProcessSpendsNoDeadline stalls a process in the middle of a reading, for longer than
// the driver's deadline.
func TestStalledProcessSpendsNoDeadline(t *testing.T) {
	const deadline = 2 * time.Second
	for _, c := range []struct {
		name   string
		sense  time.Duration // how much time of the process a reading needs
		want   State
		reason string
	}{
		{"a reading that needs less than its deadline", 1900 * time.Millisecond, StateOK, ""},
		{"a reading that needs more", 2500 * time.Millisecond, StateFailing, "no answer within 2s: the bus hangs"},
		{"a reading that ends soon after it", 2050 * time.Millisecond, StateFailing, "no answer within 2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				process := stalls{{start.Add(time.Second), start.Add(11 * time.Second)}}
				var first time.Time
				d := Driver{
					Spec: Spec{
						Name: "d", Quantities: []Quantity{{Name: "v"}}, Timeout: deadline,
					},
					Open: func(context.Context, Config, *bus.Set) (Sensor, error) {
						return device(func(context.Context) ([]Measurement, error) {
							if first.IsZero() {
								first = time.Now()
								time.Sleep(c.sense + 10*time.Second) // it stands still in between
							}
							return []Measurement{{Quantity: "v", Value: 1}}, nil
						}), nil
					},
				}
				var states []Status
				var at []time.Time
				s := NewSupervisor([]Config{{Name: "s", Driver: "d", Every: time.Hour}}, SupervisorOptions{
					Drivers: []Driver{d}, Reading: func(Reading) {}, afterFunc: process.afterFunc,
					Status: func(s Status) { states, at = append(states, s), append(at, time.Now()) },
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- s.Run(ctx) }()
				time.Sleep(14 * time.Second)
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if len(states) == 0 || states[0].State != c.want || !strings.HasSuffix(states[0].Reason, c.reason) {
					t.Fatalf("got %+v, want %s %q", states, c.want, c.reason)
				}
				if ran := process.ran(first, at[0]); c.want != StateOK && ran < deadline-maxTick {
					t.Errorf("failed after the process had run for %v", ran)
				}
			})
		})
	}
}
