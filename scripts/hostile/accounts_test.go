package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every way in which a delivery can be wrong is found, and what may happen is not.
func TestAccount(t *testing.T) {
	type step struct {
		n     int // acknowledged if negative
		again bool
	}
	for name, c := range map[string]struct {
		once    bool
		steps   []step
		missing []int
		want    string // in the only problem
	}{
		"all there":               {false, []step{{-1, false}, {1, false}, {2, false}, {-2, false}}, nil, ""},
		"lost":                    {false, []step{{-1, false}, {-2, false}, {-3, false}, {2, false}}, []int{1, 3}, ""},
		"not acknowledged":        {false, []step{{-1, false}, {1, false}, {3, false}}, nil, ""},
		"twice":                   {false, []step{{1, false}, {1, false}}, nil, "came twice"},
		"resent":                  {false, []step{{1, false}, {1, true}}, nil, ""},
		"resent at QoS 2":         {true, []step{{1, false}, {1, true}}, nil, "came twice"},
		"out of order":            {false, []step{{2, false}, {1, false}}, nil, "came after"},
		"resent behind newer":     {false, []step{{1, false}, {2, false}, {1, true}, {2, true}, {3, false}}, nil, ""},
		"late with the resending": {false, []step{{1, false}, {3, false}, {2, true}}, nil, "came after"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount("x", c.once)
			for _, s := range c.steps {
				if s.n < 0 {
					a.acknowledged(-s.n)
				} else {
					a.received(s.n, s.again)
				}
			}
			if got := a.missing(1000); !slices.Equal(got, c.missing) {
				t.Errorf("missing %v, want %v", got, c.missing)
			}
			got := strings.Join(a.takeProblems(), "; ")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("problems %q, want %q", got, c.want)
			}
		})
	}
}

// A refusal that no counter shows is a problem, and one that a counter of its kind shows is none.
func TestRefusalsAreCounted(t *testing.T) {
	for name, want := range map[string]int{
		`holdfast_refusals_total{packet="PUBACK",reason="not authorized"}`: 0,
		`holdfast_refusals_total{packet="SUBACK",reason="not authorized"}`: 1,
		"holdfast_publishes_received_total":                                1,
	} {
		j := newJudge(time.Second)
		j.refusal("publish", 0x87)
		j.counted(counters{name: 1}, counters{name: 2})
		if got := j.take(); len(got) != want {
			t.Errorf("%s grows: problems %q, want %d", name, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	if got, want := ranges([]int{1, 2, 3, 7, 9, 10}), "1-3, 7, 9-10"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Each damage changes the data directory, and only that.
func TestDamageKinds(t *testing.T) {
	for _, kind := range damageKinds {
		t.Run(kind.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(of, text string) {
				for _, name := range []string{"journal/1.seg", "journal/2.seg", "journal/3.snap", "mark"} {
					path := filepath.Join(dir, of, name)
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(strings.Repeat(text, 1<<20)), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			read := func(of string) string {
				all := ""
				files(filepath.Join(dir, of), func(path string) error {
					b, err := os.ReadFile(path)
					all += string(b)
					return err
				})
				return all
			}
			write("data", "n")
			write("old", "o")
			write("other", "f")
			before, old, other := read("data"), read("old"), read("other")
			at := func(name string) string { return filepath.Join(dir, name) }
			if err := kind.do(rand.New(rand.NewPCG(1, 1)), at("data"), at("old"), at("other")); err != nil {
				t.Fatal(err)
			}
			if read("data") == before {
				t.Error("nothing has changed")
			}
			if read("old") != old || read("other") != other {
				t.Error("the copies have changed")
			}
		})
	}
}
