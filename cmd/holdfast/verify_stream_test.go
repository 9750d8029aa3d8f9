package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/gateway/verify"
)

// TestVerifyStreamFromAFile: a stream with known gaps, duplicates and disorder, as other programs write it.
func TestVerifyStreamFromAFile(t *testing.T) {
	reading := func(n int) string {
		return fmt.Sprintf(`sites/north/sensors/pi/air/t%d {"value":1,"unit":"C","time":null,"seq":%d}`+"\n", n%3, n)
	}
	var b strings.Builder
	for n := 1; n <= 1000; n++ {
		switch {
		case n == 500 || 600 <= n && n <= 649:
		case n == 700:
			b.WriteString(reading(700) + reading(699) + reading(700)) // 699 again, 700 twice
		case n == 800:
			b.WriteString(reading(803) + reading(800))
		case n != 803:
			b.WriteString(reading(n))
		}
	}
	b.WriteString(`{"topic":"sites/north/status/pi/air","payload":{"state":"ok"}}` + "\n")
	announced := `holdfast/pi/losses {"bridge":"cloud","id":1,"first":610,"last":700,"count":55,"reason":"max_age","readings":{"first":600,"last":649,"count":50}}` + "\n"
	file := filepath.Join(t.TempDir(), "stream")
	verify := func(text string, args ...string) result {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return holdfast(t, text, append([]string{"verify-stream", "--input", file, "sites/#"}, args...)...)
	}
	const columns = "DEVICE  FROM  TO    RECEIVED  TWICE  DISORDER  MISSING  ANNOUNCED  UNACCOUNTED\n"
	for _, c := range []struct {
		text string
		args []string
		code int
		want string
	}{
		{b.String(), nil, 1, columns + "pi      1     1000  949       2      1         51       0          51\n" +
			"pi: missing, and not announced: 500 to 500\npi: missing, and not announced: 600 to 649\n"},
		{b.String() + announced, nil, 1, columns + "pi      1     1000  949       2      1         51       50         1\n" +
			"pi: 50 readings were announced as lost: max_age\n" +
			"pi: 5 messages were announced as lost without numbers, such as damage: readings may be among them\n" +
			"pi: missing, and not announced: 500 to 500\n"},
		{b.String() + announced + reading(500), nil, 0, "announced as lost: max_age"},
		{b.String() + `holdfast/pi/losses {"bridge":"cloud","id":2,"first":9,"last":9,"count":0,"reason":"unknown"}` + "\n", nil, 1,
			"pi: an unknown number of messages: the journal was damaged, emptied or went back in time: readings may be among them\n"},
		{b.String() + announced + reading(500), []string{"--strict"}, 1, "announced as lost: max_age"},
		{b.String(), []string{"--count", "499"}, 0, "pi      1     499  499       0      0         0        0          0"},
		{b.String(), []string{"--count", "5000"}, 3, "pi      1     1000"},
		{"", nil, 1, "DEVICE"},
		{"what is this\n\n", nil, 1, ""},
	} {
		if r := verify(c.text, c.args...); r.code != c.code || !strings.Contains(r.out, c.want) {
			t.Errorf("%v: exit code %d, want %d: %s\ngot  %s\nwant %s", c.args, r.code, c.code, r.errs, r.out, c.want)
		}
	}
	r := holdfast(t, b.String(), "verify-stream", "--input", "-", "--json", "sites/#")
	report := reported(t, r)
	if len(report.Devices) != 1 || report.Devices[0].Unaccounted != 51 || r.code != 1 {
		t.Errorf("exit code %d, %+v", r.code, report)
	}
	for _, args := range [][]string{{}, {"a/#/b"}, {"a", "b"}, {"a", "--level", "-1"}, {"a", "--losses", "#/"}, {"a", "--input", "/nowhere"}} {
		if r := holdfast(t, "", append([]string{"verify-stream"}, args...)...); r.code != 2 {
			t.Errorf("%q: exit code %d, want 2: %s", args, r.code, r.errs)
		}
	}
}

// TestVerifyStreamLive reads from a broker: here the gateway's own, which has readings retained, each on a
// topic of its own.
func TestVerifyStreamLive(t *testing.T) {
	g := serve(t, openBroker)
	host, port, _ := strings.Cut(g.addr, ":")
	put := func(topic, payload string) {
		must(t, holdfast(t, "", "pub", "-h", host, "-p", port, "-r", "-q", "1", "-t", topic, "-m", payload))
	}
	for _, n := range []int{7, 8, 11} {
		put(fmt.Sprintf("sensors/pi/air/%d", n), fmt.Sprintf(`{"value":1,"seq":%d}`, n))
	}
	verify := func(args ...string) result {
		return holdfast(t, "", append([]string{"verify-stream", "sensors/#", "--url", "mqtt://" + g.addr, "--json", "--from", "7"}, args...)...)
	}
	check := func(r result, code int, unaccounted uint64) {
		t.Helper()
		report := reported(t, r)
		if r.code != code || len(report.Devices) != 1 || report.Devices[0].Unaccounted != unaccounted {
			t.Errorf("exit code %d, want %d: %+v: %s", r.code, code, report, r.errs)
		}
	}
	check(verify("--count", "3"), 1, 2)
	put("holdfast/pi/losses", `{"bridge":"cloud","id":1,"first":2,"last":3,"count":2,"reason":"expired","readings":{"first":9,"last":10,"count":2}}`)
	check(verify("--count", "3"), 0, 0)
	check(verify("--count", "4", "--for", "2s", "-V", "3.1.1"), 3, 0)

	bridge := g.write("bridge.yaml", fmt.Sprintf("bridges: [{name: up, upstream: [\"mqtt://%s\"], out: [{filter: x}]}]\n", g.addr))
	if r := holdfast(t, "", "verify-stream", "sensors/#", "-c", bridge, "--count", "3", "--from", "7"); r.code != 0 {
		t.Errorf("with -c: exit code %d: %s%s", r.code, r.out, r.errs)
	}
	if r := holdfast(t, "", "verify-stream", "sensors/#", "-c", bridge, "--bridge", "none"); r.code != 2 || !strings.Contains(r.errs, `["up"]`) {
		t.Errorf("exit code %d: %s", r.code, r.errs)
	}
}

func reported(t *testing.T, r result) (report verify.Report) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.errs)
	}
	return report
}
