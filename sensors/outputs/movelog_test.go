package outputs_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors/outputs"
)

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestMovesAreLogged: each move has a line with what moved the output, for whom; of many only their number is there.
func TestMovesAreLogged(t *testing.T) {
	var log lines
	moves := func() int { return strings.Count(log.String(), "output moved") }
	lease := relay("pump", 2)
	lease.Lease = time.Second
	withLog(t, slog.New(slog.NewTextHandler(&log, nil)), nil, func(b *bench) {
		has := func(text string) {
			t.Helper()
			if all := strings.Split(strings.TrimSpace(log.String()), "\n"); !strings.Contains(all[len(all)-1], text) {
				t.Errorf("the last line is %s, want %s", all[len(all)-1], text)
			}
		}
		has(`msg="output moved" output=pump from=unknown to=0 by=start`)
		b.send("pump", outputs.Command{Value: 1, Why: "dashboard anna", ID: "a1"})
		has(`from=0 to=1 by=command why="dashboard anna" id=a1`)
		n := moves()
		b.send("pump", outputs.Command{Value: 1, Why: "dashboard ben"})
		if moves() != n {
			t.Error("a renewal is logged as a move")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		has(`from=1 to=0 by=lease why="the command was not renewed"`)
		for i := range 1500 {
			b.send("pump", outputs.Command{Value: float64((i + 1) % 2), ID: fmt.Sprint(i)})
		}
		if got := moves(); got != 10 {
			t.Errorf("%d lines in a minute, want 10", got)
		}
		time.Sleep(time.Minute)
		b.set("pump", 1)
		has(`moves_not_logged=1493`) // 3 + 1500 - 10
	}, lease)
}
