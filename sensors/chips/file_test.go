package chips

import (
	"testing"
	"time"
)

// TestFileAgeOverSteps looks at files while the wall clock steps before, between and after the looks.
func TestFileAgeOverSteps(t *testing.T) {
	begun := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, step := range []time.Duration{0, time.Minute, time.Hour, -time.Hour, 40 * day, -40 * day} {
		type look struct {
			what    string
			at      time.Duration // since begun
			written time.Duration // since begun, by the clock of that time
			stepped bool          // before the look
			after   bool          // the file was written after the step
			want    time.Duration // age
		}
		for _, c := range [][]look{
			{{"first", 0, -2 * time.Hour, false, false, 2 * time.Hour}},
			{{"first", 0, -time.Second, false, false, time.Second}, {"the same after the step", 10 * time.Minute, -time.Second, true, false, 10*time.Minute + time.Second}},
			{{"first", 0, -time.Second, false, false, time.Second}, {"written before the step", 10 * time.Second, 4 * time.Second, true, false, 6 * time.Second},
				{"the same later", 20 * time.Second, 4 * time.Second, true, false, 16 * time.Second}},
			{{"first", 0, -time.Second, false, false, time.Second}, {"written after the step", 10 * time.Second, 4 * time.Second, true, true, 6 * time.Second},
				{"the same later", 20 * time.Second, 4 * time.Second, true, true, 16 * time.Second}},
			{{"first", 0, -time.Second, false, false, time.Second}, {"an old one is put there", 10 * time.Second, -3 * time.Hour, true, true, 3*time.Hour + 10*time.Second}},
		} {
			s, last := &fileSensor{}, time.Duration(0)
			for _, l := range c {
				now, written := begun.Add(l.at), begun.Add(l.written)
				if l.stepped {
					now = now.Add(step)
				}
				if l.after {
					written = written.Add(step)
				}
				if got := s.age(now, written, l.at-last); got != l.want {
					t.Errorf("step by %v: %s: got %v, want %v", step, l.what, got, l.want)
				}
				s.looked, last = now, l.at
			}
		}
	}
}
