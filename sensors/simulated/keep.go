package simulated

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// KeepLines brings the lines to the levels that a file ends with, as pins keep theirs while a process
// is away, and adds every change from now on to it, one a line: time, line, "output" or "input", "high"
// or "low". What is written is there after SIGKILL. It is to be called before any line is opened.
func (p *Pi) KeepLines(file string) error {
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	events, err := ParseLines(string(data))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record = func(e Event) { fmt.Fprintln(f, e) } // one write each
	for _, e := range events {
		p.named(e.Line).level = e.High
	}
	return nil
}

// String is e as a line of a history file.
func (e Event) String() string {
	direction, level := "input", "low"
	if e.Driven {
		direction = "output"
	}
	if e.High {
		level = "high"
	}
	return fmt.Sprintf("%s %s %s %s", e.Time.UTC().Format(time.RFC3339Nano), e.Line, direction, level)
}

// ParseLines reads a history file.
func ParseLines(text string) (events []Event, err error) {
	s := bufio.NewScanner(strings.NewReader(text))
	for n := 1; s.Scan(); n++ {
		f := strings.Fields(s.Text())
		if len(f) != 4 {
			return nil, fmt.Errorf("line %d: got %.60q, want time, line, direction and level", n, s.Text())
		}
		at, err := time.Parse(time.RFC3339Nano, f[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		events = append(events, Event{at, f[1], f[2] == "output", f[3] == "high"})
	}
	return events, s.Err()
}
