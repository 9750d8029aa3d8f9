package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestJournalDead: what an upstream refuses is shown with its reason while the gateway runs, and sent again
// or deleted when it is stopped.
func TestJournalDead(t *testing.T) {
	up := serve(t, openBroker+"  acl: [{topic: open, access: write}]\n")
	g := serve(t, openBroker+fmt.Sprintf("bridges: [{name: cloud, upstream: [\"mqtt://%s\"], out: [{filter: '#'}]}]\n", up.addr))
	dead := func(args ...string) result {
		return holdfast(t, "", append([]string{"journal", "--data-dir", filepath.Join(g.dir, "data"), "dead"}, args...)...)
	}
	if out := must(t, dead()); out != "nothing was refused\n" {
		t.Errorf("got %q", out)
	}
	for _, m := range []string{"one", "two", "three"} {
		must(t, holdfast(t, "", "pub", "--url", "mqtt://"+g.addr, "-t", "secret/"+m, "-m", "payload "+m, "-q", "1"))
	}
	type letter struct {
		Seq, Was                       uint64
		Bridge, Reason, Topic, Payload string
	}
	list := func(args ...string) (letters []letter) {
		for line := range strings.Lines(must(t, dead(append(args, "--json")...))) {
			var l letter
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			letters = append(letters, l)
		}
		return letters
	}
	var letters []letter
	for range 500 { // until the upstream has answered
		if letters = list("--bridge", "cloud"); len(letters) == 3 {
			break
		}
	}
	if len(letters) != 3 || letters[1].Topic != "secret/two" || letters[1].Payload != "payload two" || letters[1].Was == 0 ||
		!strings.HasPrefix(letters[1].Reason, "upstream says: ") || letters[1].Bridge != "cloud" {
		t.Fatalf("got %+v", letters)
	}
	if got := list("--bridge", "other"); len(got) > 0 {
		t.Errorf("of another bridge: %+v", got)
	}
	if out := must(t, dead()); strings.Count(out, "\n") != 4 || !strings.Contains(out, "secret/three  upstream says: ") {
		t.Errorf("got %s", out)
	}
	if r := dead("delete", "--all"); r.code != 1 || !strings.Contains(r.errs, "stop the gateway first") {
		t.Errorf("while it runs: exit code %d: %s", r.code, r.errs)
	}
	g.kill()
	for _, args := range [][]string{{"delete"}, {"send", "x"}, {"send", "7", "--all"}} {
		if r := dead(args...); r.code != 2 {
			t.Errorf("%q: exit code %d, want 2: %s", args, r.code, r.errs)
		}
	}
	if r := dead("delete", "999999"); r.code != 1 || !strings.Contains(r.errs, "999999: no such dead letter") {
		t.Errorf("exit code %d: %s", r.code, r.errs)
	}
	if out := must(t, dead("delete", fmt.Sprint(letters[0].Seq))); out != "1 message deleted\n" {
		t.Errorf("got %q", out)
	}
	if out := must(t, dead("send", "--all", "--bridge", "cloud")); out != "2 messages sent\n" {
		t.Errorf("got %q", out)
	}
	if got := list(); len(got) > 0 {
		t.Errorf("left: %+v", got)
	}
	out := must(t, holdfast(t, "", "journal", "--data-dir", filepath.Join(g.dir, "data"), "export", "--reader", "bridge/cloud"))
	if strings.Count(out, "\n") < 2 || !strings.Contains(out, `"topic":"secret/two"`) || !strings.Contains(out, `"topic":"secret/three"`) || strings.Contains(out, "secret/one") {
		t.Errorf("for the bridge: %s", out)
	}
}
