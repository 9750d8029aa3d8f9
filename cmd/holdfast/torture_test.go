package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/broker/brokertest"
	"holdfast/gateway/torture"
)

// TestTorture is a short run: every kind of trial, and every promise kept.
func TestTorture(t *testing.T) {
	brokertest.Long(t)
	r := holdfast(t, "", "torture", "--for", "5s", "--dir", t.TempDir(), "-v")
	t.Logf("%s%s", r.errs, r.out)
	if r.code != 0 || !strings.Contains(r.out, "Every promise was kept") || !strings.Contains(r.errs, "kill") {
		t.Errorf("exit code %d", r.code)
	}
	if r := holdfast(t, "", "torture", "--for", "1s"); r.code != 2 || !strings.Contains(r.errs, "at least 5s") {
		t.Errorf("%+v", r)
	}
}

// TestTortureFindsABrokenPromise: the verdict is no formality.
func TestTortureFindsABrokenPromise(t *testing.T) {
	brokertest.Long(t)
	for _, b := range []torture.Break{torture.AcknowledgeEarly, torture.DropOne} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			verdicts, err := torture.Run(t.Context(), torture.Options{
				Program: program, Dir: t.TempDir(), For: 5 * time.Second, Seed: 1, Out: &out, Break: b, Only: "power and links",
			})
			t.Log(out.String())
			if !errors.Is(err, torture.ErrBroken) || verdicts[0].Lost == 0 {
				t.Errorf("it is not found: %v", err)
			}
		})
	}
}
