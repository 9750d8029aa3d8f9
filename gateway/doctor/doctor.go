// Package doctor checks whether a machine and a configuration work together, and reports each problem with its
// remedy.
//
// It promises that each check ends, whatever is broken, that it changes nothing but a file of a few KiB in
// data_dir, which it removes again, and that no secret of the configuration is in its findings or archives. At an
// upstream it does what `holdfast bridge test` does, but never in the place of a gateway that is connected.
// It reads I2C buses as `holdfast scan` does. It sees only what its user may read: run it as the user of the
// service.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"holdfast/broker/diagnose"
	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/sensors"
	"holdfast/sensors/scan"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // works, and will not for ever, or not as one may think
	Fail Level = "fail" // does not work
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // what to do; always there if Level is not OK
}

// Machine gives the doctor access to a machine. Here returns the one it runs on.
type Machine struct {
	Root   fs.FS // what is below /
	Now    func() time.Time
	UserID int
	Groups func() ([]string, error) // of this process, by name
	// Access returns an error unless this process may read and write a path; Group returns the group that owns it.
	Access func(path string) error
	Group  func(path string) string
	Synced func() (bool, error) // whether the kernel's clock is
	Disk   func(path string) (size, free int64, err error)
	Sync   func(dir string) (median, worst time.Duration, err error) // what a small commit takes there
	Listen func(network, address string) error
	Try    func(ctx context.Context, cfg *config.Config, bridge string, address func(url string), report func(diagnose.Step)) error
	// Status returns the status of the gateway that runs with a configuration, or an error if none answers.
	Status func(ctx context.Context, cfg *config.Config) (*status.Status, error)
	Run    func(ctx context.Context, name string, args ...string) (string, error)
	Scan   func(ctx context.Context) (*scan.Result, error)
}

// Subject is the configuration to check, or the reason why there is none.
type Subject struct {
	Files   []string
	Config  *config.Config // nil if Err is set
	Err     error
	Drivers []sensors.Driver
	Lost    []string // what of the journal was lost of which the number is not known
	LostErr error    // why that is not known
}

// checkTimeout is how long a single check may take.
const checkTimeout = 15 * time.Second

type examination struct {
	Subject
	m        Machine
	findings []Finding
	check    string
}

func (e *examination) add(level Level, remedy, format string, args ...any) {
	e.findings = append(e.findings, Finding{e.check, level, fmt.Sprintf(format, args...), remedy})
}

func (e *examination) ok(format string, args ...any) { e.add(OK, "", format, args...) }

// Examine makes every check, one after the other.
func Examine(ctx context.Context, s Subject, m Machine) []Finding {
	e := &examination{Subject: s, m: m}
	for _, c := range []struct {
		name string
		look func(context.Context)
		any  bool // also without a configuration
	}{
		{"configuration", e.configuration, true},
		{"user", e.user, true},
		{"service", e.service, true},
		{"buses", e.buses, false},
		{"wiring", e.wiring, false},
		{"power", e.power, true},
		{"clock", e.clock, true},
		{"disk", e.disk, false},
		{"lost", e.lost, true},
		{"card", e.card, true},
		{"commit", e.commit, false},
		{"ports", e.ports, false},
		{"certificates", e.certificates, false},
		{"bridges", e.bridges, false},
		{"upstream", e.upstream, false}, // has a time for each address
		{"watchdog", e.watchdog, true},
	} {
		if e.check = c.name; s.Config == nil && !c.any {
			continue
		}
		limit := checkTimeout
		if c.name == "upstream" {
			limit *= 2 * e.addresses()
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		c.look(ctx)
		cancel()
	}
	return e.findings
}

// Worst is the level of the worst finding.
func Worst(fs []Finding) Level {
	worst := OK
	for _, f := range fs {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}

// Print writes findings for a person.
func Print(w io.Writer, fs []Finding) {
	last := ""
	for _, f := range fs {
		name := f.Check
		if name == last {
			name = ""
		}
		last = f.Check
		const hang = "\n                    "
		fmt.Fprintf(w, "%-4s  %-13s %s\n", f.Level, name, strings.ReplaceAll(f.Text, "\n", hang))
		if f.Remedy != "" {
			fmt.Fprintf(w, "      %-13s -> %s\n", "", strings.ReplaceAll(f.Remedy, "\n", hang+"   "))
		}
	}
}

// PrintJSON writes findings for a program.
func PrintJSON(w io.Writer, fs []Finding) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		Worst    Level     `json:"worst"`
		Findings []Finding `json:"findings"`
	}{Worst(fs), fs})
}

// read returns a small file of the machine, without the white space around it; empty if it cannot be read.
func (e *examination) read(name string) string {
	data, err := fs.ReadFile(e.m.Root, strings.TrimPrefix(name, "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func (e *examination) exists(name string) bool {
	_, err := fs.Stat(e.m.Root, strings.TrimPrefix(name, "/"))
	return err == nil
}

// first returns the first name that matches one of the patterns.
func (e *examination) first(patterns ...string) string {
	for _, p := range patterns {
		if found, _ := fs.Glob(e.m.Root, p); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}
