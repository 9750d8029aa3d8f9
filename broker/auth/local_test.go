package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLocalAttacker: programs of this machine share an address. One that guesses gets few guesses, whatever
// names it tries, and the owner of the right password comes in within a bounded time.
func TestLocalAttacker(t *testing.T) {
	const long = 20 * time.Minute
	for _, tt := range []struct {
		name    string
		program int                       // that guess at the same time
		user    func(i int) string        // of a guess
		client  func(p, i int) string     // of a guess
		before  bool                      // whether the owner has come in before, with the same client identifier
		bound   time.Duration             // until the owner is in
		guesses func(d time.Duration) int // most of them that are checked
	}{
		{"one program", 1, always("anna"), fresh, false, longestTurn, perUser},
		{"three programs", 3, always("anna"), fresh, false, longestTurn, perUser},
		{"a crowd, and an owner that was here", 200, always("anna"), fresh, true, 0, perUser},
		{"names, one after the other", 1, names, fresh, false, longestTurn, perMachine},
		{"other names, from many programs, and an owner who was never seen", 200, others, fresh, false, 0, perMachine},
		{"names that exist, from many programs, and an owner who was never seen", 200, always("ben"), fresh, false, 0, perUser},
		{"names, from many programs, and an owner that was here", 200, names, fresh, true, 0, perMachine},
		{"the owner's identifier", 3, always("anna"), func(int, int) string { return "node-red" }, true, longestTurn, perUser},
		{"without an identifier", 3, always("anna"), func(int, int) string { return "" }, true, 0, perUser},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var checks atomic.Int32
				a := withUsers(t, map[string]hash{"anna": counted(&checks), "ben": counted(&checks)})
				enter := func(user, client, password string) error {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // as a server has it
					defer cancel()
					_, err := a.Login(ctx, Login{ClientID: client, Username: user, Named: true, Password: []byte(password),
						Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
					return err
				}
				if tt.before {
					if err := enter("anna", "node-red", "right"); err != nil {
						t.Fatal(err)
					}
				}
				checks.Store(0)
				stop := make(chan struct{})
				var work sync.WaitGroup
				for p := range tt.program {
					work.Go(func() {
						for i := p; ; i += tt.program {
							select {
							case <-stop:
								return
							case <-time.After(time.Duration(tt.program) * 10 * time.Millisecond):
							}
							if err := enter(tt.user(i), tt.client(p, i), fmt.Sprint("guess ", i)); err == nil {
								t.Error("a guess came in")
							}
						}
					})
				}
				worst := time.Duration(0)
				for begun := time.Now(); time.Since(begun) < long; time.Sleep(time.Minute) {
					at := time.Now()
					client := "node-red"
					if !tt.before {
						client = fmt.Sprint("new at ", time.Since(begun))
					}
					if err := enter("anna", client, "right"); err != nil {
						t.Errorf("the owner after %v: %v", time.Since(begun), err)
					}
					worst = max(worst, time.Since(at))
				}
				close(stop)
				work.Wait()
				if worst > tt.bound {
					t.Errorf("the owner came in after %v, want at most %v", worst, tt.bound)
				}
				if n, most := int(checks.Load()), tt.guesses(long); n > most {
					t.Errorf("%d guesses were checked in %v, want at most %d", n, long, most)
				}
				if n := len(a.throttle.sources); n > maxSources {
					t.Errorf("%d lanes", n)
				}
			})
		})
	}
}

func always(user string) func(int) string { return func(int) string { return user } }
func names(i int) string                  { return []string{"anna", "ben", fmt.Sprint("nobody", i)}[i%3] }
func others(i int) string                 { return []string{"ben", fmt.Sprint("nobody", i)}[i%2] }
func fresh(p, i int) string               { return fmt.Sprint("c", p, "-", i) }

// The most checks of d: those that are free, one at each turn, and some for the owner.
func perUser(d time.Duration) int    { return freeFailures + 3 + int(d/turnEvery) + 30 }
func perMachine(d time.Duration) int { return allFree + 3 + int(d/allTurnEvery) + 30 }

// TestAtOnce: guesses that come at the same time do not all pass before the first has failed.
func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		a := withUsers(t, map[string]hash{"anna": counted(&checks)})
		var work sync.WaitGroup
		for i := range 500 {
			work.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err := a.Login(ctx, Login{ClientID: fmt.Sprint(i), Username: "anna", Named: true, Password: []byte(fmt.Sprint(i)), Remote: &net.UnixAddr{}})
				if err == nil {
					t.Error("a guess came in")
				}
			})
		}
		work.Wait()
		if n := int(checks.Load()); n > freeFailures+cap(a.slots)+int(longestTurn/turnEvery)+1 {
			t.Errorf("%d guesses were checked", n)
		}
	})
}

// TestProvenIsBounded: what is remembered of clients stays small, and a long name costs what a short one does.
func TestProvenIsBounded(t *testing.T) {
	var th throttle
	for i := range 2 * maxProven {
		th.prove("anna", fmt.Sprint(i))
	}
	if len(th.proven) != maxProven {
		t.Errorf("%d clients are remembered, want %d", len(th.proven), maxProven)
	}
	long := string(make([]byte, 60_000))
	if n := len(lane(long, long)); n != 16 {
		t.Errorf("a lane's name has %d bytes", n)
	}
	if lane("ab", "c") == lane("a", "bc") {
		t.Error("two pairs share a lane")
	}
}

// TestQuickReplacement: a password file is read again also if what is in its place now has the same size and
// time of modification.
func TestQuickReplacement(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwords")
	content := func(password string) []byte { return []byte("anna:" + NewHash([]byte(password)) + "\n") }
	at := time.Unix(1_700_000_000, 0)
	write := func(name string, data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(name, data, 0o600), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	write(file, content("one"))
	a, err := New(Options{PasswordFile: file})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(data []byte)
	}{
		{"renamed over it", func(data []byte) {
			write(file+".new", data)
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}},
		{"written in place", func(data []byte) {
			for before := stat(file); stat(file) == before; { // the file system's clock ticks
				write(file, data)
			}
		}},
	} {
		if changed, err := a.ReloadIfChanged(); changed || err != nil {
			t.Errorf("%s: before: changed %v, %v", tt.name, changed, err)
		}
		tt.change(content("two " + tt.name))
		if changed, err := a.ReloadIfChanged(); !changed || err != nil {
			t.Errorf("%s: changed %v, %v", tt.name, changed, err)
		}
		l := Login{Username: "anna", Named: true, Password: []byte("two " + tt.name), Remote: remote}
		if _, err := a.Login(t.Context(), l); err != nil {
			t.Errorf("%s: the new password: %v", tt.name, err)
		}
	}
}
