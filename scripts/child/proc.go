package child

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the time that the process has computed, in user and kernel mode (proc(5), /proc/PID/stat).
func (p *Process) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, err
	}
	return parseCPU(string(b))
}

func parseCPU(stat string) (time.Duration, error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name before may hold blanks and parentheses
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat: got %q, want utime and stime as fields 14 and 15", stat)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/PID/stat: got utime %q and stime %q, want numbers", f[11], f[12])
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil // a tick is 1/100 s on every Linux
}

// RSS is the resident memory of the process in bytes (VmRSS of /proc/PID/status).
func (p *Process) RSS() (int64, error) { return p.memory("VmRSS") }

// PeakRSS is the largest resident memory that the process ever had, in bytes (VmHWM).
func (p *Process) PeakRSS() (int64, error) { return p.memory("VmHWM") }

func (p *Process) memory(key string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, err
	}
	return parseMemory(string(b), key)
}

func parseMemory(status, key string) (int64, error) {
	_, rest, ok := strings.Cut("\n"+status, "\n"+key+":")
	line, _, _ := strings.Cut(rest, "\n")
	kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(line, "kB")), 10, 64)
	if !ok || err != nil { // a process that is ending has no memory any more
		return 0, fmt.Errorf("/proc/PID/status: got %s %q, want a number of kB", key, line)
	}
	return kb << 10, nil
}
