package brokertest

import (
	"time"
	"unsafe"
)

// Stepped returns t as time.Now would have returned it had the wall clock been stepped by d before: the monotonic
// reading stays. It depends on the layout of time.Time (package time, "hasMonotonic"), and panics if that has changed.
func Stepped(t time.Time, d time.Duration) time.Time {
	const flag = 1 << 63 // then: 33 bits of seconds since 1885, 30 bits of ns
	of := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	if of.wall&flag == 0 {
		panic("brokertest: a time without a monotonic reading cannot be stepped")
	}
	was := t
	of.wall += uint64(int64(d/time.Second)) << 30
	if t.Sub(was) != 0 || t.Round(0).Sub(was.Round(0)) != d.Truncate(time.Second) {
		panic("brokertest: time.Time has another layout")
	}
	return t
}

// Steps are the clock steps of tests: a correction, an hour, and those of a wrong battery or a wrong server.
func Steps() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{time.Second, -time.Second, time.Hour, -time.Hour, 40 * day, -40 * day}
}
