package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	transcriptBegin = "<!-- transcript: make vm -->\n"
	transcriptEnd   = "<!-- end of the transcript -->\n"
)

// newcomer does the first steps of a new user, and notes what is on the screen.
func (t *test) newcomer(ctx context.Context) (string, error) {
	began := time.Now()
	var b strings.Builder
	say := func(prompt, command, output string) {
		fmt.Fprintf(&b, "%s %s\n", prompt, command)
		if output != "" {
			b.WriteString(output + "\n")
		}
	}
	port := fmt.Sprint(t.upstream.port)
	for i, command := range []string{
		"apt install -y ./holdfast_" + oldVersion + "_arm64.deb",
		"systemctl is-active holdfast",
		"holdfast sub -t 'sensors/#' -v -C 3",
		`cat >>/etc/holdfast/holdfast.yaml <<'END'
bridges:
  - name: cloud
    upstream: ["mqtt://broker.example:` + port + `"]
    out:
      - filter: "sensors/#"
END`,
		"holdfast check",
		"holdfast reload",
	} {
		if i == 2 { // faster than a person, and the machine is slower
			if _, err := t.console.eventually(ctx, "holdfast sub -t 'sensors/#' -C 1 -W 30"); err != nil {
				return "", err
			}
		}
		out, err := t.console.sh(ctx, "cd /home/pi\n"+command)
		if err != nil {
			return "", err
		}
		// What apt and debconf say because they have no terminal.
		var lines []string
		for line := range strings.Lines(out) {
			line = strings.TrimRight(line, " \n")
			line = line[max(0, strings.LastIndex(line, "(Reading database")):] // its per cents overwrite each other
			if line != "" && !strings.HasPrefix(line, "WARNING: apt") && !strings.HasPrefix(line, "debconf: ") {
				lines = append(lines, line)
			}
		}
		say("root@pi:/home/pi#", command, strings.Join(lines, "\n"))
	}
	var reading string
	if err := t.within(ctx, arrival, func(ctx context.Context) (err error) {
		reading, err = t.upstream.reading(ctx)
		return err
	}); err != nil {
		return "", err
	}
	took := time.Since(began)
	say("you@broker:~$", "mosquitto_sub -t 'sensors/#' -v -C 1", reading)
	text := strings.ReplaceAll(b.String(), "broker.example:"+port, "broker.example:1883")
	if t.readme != "" {
		if err := replaceTranscript(t.readme, text); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s after %.0f s", reading, took.Seconds()), nil
}

// replaceTranscript puts text between the marks in a file.
func replaceTranscript(name, text string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(content), transcriptBegin)
	_, after, ok2 := strings.Cut(rest, transcriptEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s: got no %q and %q to write between", name, strings.TrimSpace(transcriptBegin), strings.TrimSpace(transcriptEnd))
	}
	text = before + transcriptBegin + "```console\n" + text + "```\n" + transcriptEnd + after
	return os.WriteFile(name, []byte(text), 0o644)
}
