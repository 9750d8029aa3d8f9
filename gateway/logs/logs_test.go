package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPriorities(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newPrefixed(&out, slog.LevelDebug))
	log.Debug("a")
	log.With("bridge", "cloud").Info("b", "text", "two\nlines")
	log.WithGroup("g").Warn("c", "n", 1)
	log.Error("d")
	const want = `<7>level=DEBUG msg=a
<6>level=INFO msg=b bridge=cloud text="two\nlines"
<4>level=WARN msg=c g.n=1
<3>level=ERROR msg=d
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	out.Reset()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 100 {
				log.Info("same")
				log.Error("other")
			}
		})
	}
	work.Wait()
	for line := range strings.Lines(out.String()) {
		if line != "<6>level=INFO msg=same\n" && line != "<3>level=ERROR msg=other\n" {
			t.Fatalf("got %q", line)
		}
	}
}

// buffer is written to by timers, too.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// limited is a log over a limit, and its lines without level and msg=.
func limited() (*Limit, *slog.Logger, func() []string) {
	var out buffer
	l := NewLimit(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}))
	return l, slog.New(l), func() []string {
		out.mu.Lock()
		defer out.mu.Unlock()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		out.Reset()
		if lines[0] == "" {
			return nil
		}
		return lines
	}
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, lines := limited()
		cloud := log.With("bridge", "cloud")
		lost := func(i int) {
			cloud.Error("lost", "error", fmt.Errorf("read tcp 127.0.0.1:%d: reset", 9950+i), "after", time.Duration(i), "n", i)
		}
		for i := range 100 {
			lost(i)
		}
		cloud.Error("lost", "error", errors.New("timeout"))
		log.With("bridge", "other").Error("lost", "error", errors.New("timeout"))
		cloud.Warn("lost", "error", errors.New("timeout"))
		got := lines()
		if len(got) != each+3 || !strings.Contains(got[each], "error=timeout") || !strings.Contains(got[each+1], "bridge=other") || !strings.Contains(got[each+2], "WARN") {
			t.Fatalf("got %d lines: %q", len(got), got)
		}
		time.Sleep(window - 1)
		synctest.Wait()
		if got := lines(); got != nil {
			t.Errorf("early: %q", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want := `level=ERROR msg="lost: 90 more of these in the last minute" bridge=cloud error="read tcp 127.0.0.1:10049: reset" after=99ns n=99`
		if got := lines(); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %s", got, want)
		}
		// It goes on, and is logged once a minute.
		for range 3 {
			for range 30 {
				lost(0)
				time.Sleep(2 * time.Second)
			}
			synctest.Wait()
			if got := lines(); len(got) != 1 || !strings.Contains(got[0], "30 more of these") {
				t.Errorf("got %q", got)
			}
		}
		// After a minute without it, it is logged as at first.
		time.Sleep(2 * window)
		lost(0)
		if got := lines(); len(got) != 1 || strings.Contains(got[0], "more") {
			t.Errorf("got %q", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLimitAtTheEnd: Close logs what is held back, and nothing is held back after it.
func TestLimitAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, lines := limited()
		for range each + 5 {
			log.Info("client", "remote", "127.0.0.1:"+fmt.Sprint(time.Now().Nanosecond()%1000))
			time.Sleep(time.Nanosecond)
		}
		l.Close()
		if got := lines(); len(got) != each+1 || !strings.Contains(got[each], "5 more of these") {
			t.Errorf("got %q", got)
		}
		for range 2 * each {
			log.Info("client")
			log.Debug("not limited")
		}
		if got := lines(); len(got) != 4*each {
			t.Errorf("got %d lines", len(got))
		}
	})
}

// TestManyKinds: memory is bounded, the first of each kind is passed on, and what was held back is logged.
func TestManyKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, lines := limited()
		defer l.Close()
		for range each + 7 {
			log.Warn("the first kind")
		}
		for i := range 3 * kinds {
			log.Warn("kind", "topic", fmt.Sprint("t/", i))
			l.mu.Lock()
			seen, order := len(l.seen), len(l.first)
			l.mu.Unlock()
			if seen > kinds || order != seen {
				t.Fatalf("%d kinds, %d in order", seen, order)
			}
		}
		told := 0
		got := lines()
		for _, line := range got {
			if strings.Contains(line, "the first kind: 7 more") {
				told++
			}
		}
		if len(got) != each+3*kinds+1 || told != 1 {
			t.Errorf("%d lines, told %d times", len(got), told)
		}
		time.Sleep(2 * window) // the timer of what was held
		synctest.Wait()
		if got := lines(); got != nil {
			t.Errorf("got %q", got)
		}
	})
}

func TestLimitOfManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, lines := limited()
		var work sync.WaitGroup
		for range 10 {
			work.Go(func() {
				for range 100 {
					log.Error("same")
				}
			})
		}
		work.Wait()
		l.Close()
		if got := lines(); len(got) != each+1 || !strings.Contains(got[each], "990 more") {
			t.Errorf("got %q", got)
		}
	})
}
