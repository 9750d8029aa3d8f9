package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"holdfast/broker/brokertest"
)

// TestLogOfTheJournal: where standard error is the journal, each line has its priority and no time, the error that the
// program ends with too; where the variable is only inherited, the time and no priority.
func TestLogOfTheJournal(t *testing.T) {
	taken := brokertest.FreeAddress(t)
	hold := newProcess(t, "127.0.0.1:1")
	hold.addr = taken
	hold.start(hold.write("hold.yaml", fmt.Sprintf("data_dir: %s\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://%s\"}]}\n", filepath.Join(hold.dir, "data"), taken)))
	config := hold.write("second.yaml", fmt.Sprintf("data_dir: %s\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://%s\"}]}\nsensors: [{name: air, driver: bme280, bus: simulated}]\n",
		filepath.Join(hold.dir, "second"), taken))
	same := hold.write("same.yaml", fmt.Sprintf("data_dir: %s\nweb: {url: off}\nbroker: {listeners: []}\n", filepath.Join(hold.dir, "data")))
	for _, journal := range []bool{true, false} {
		file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if !journal {
			st.Ino++
		}
		run := func(config string) *exec.Cmd {
			cmd := exec.Command(program, "run", "-c", config)
			cmd.Stderr = file
			cmd.Env = append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			return cmd
		}
		cmd := run(config) // logs that the address is taken, and goes on
		eventually(t, "the log of the address", func() bool {
			said, err := os.ReadFile(file.Name())
			return err == nil && bytes.Contains(said, []byte("address already in use"))
		})
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Error(err)
		}
		if err := run(same).Wait(); err == nil {
			t.Error("the data directory is taken, and it runs")
		}
		said, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		line, last := `(?m)^<[346]>level=\w+ msg=`, `^<3>.*in use by process`
		if !journal {
			line, last = `(?m)^time=\S+ level=\w+ msg=`, `^journal: lock: .*in use by process`
		}
		lines := bytes.Split(bytes.TrimSpace(said), []byte("\n"))
		for _, l := range lines[:len(lines)-1] {
			if !regexp.MustCompile(line).Match(l) {
				t.Errorf("journal %v: %s", journal, l)
			}
		}
		if l := lines[len(lines)-1]; len(lines) < 2 || !regexp.MustCompile(last).Match(l) {
			t.Errorf("journal %v: ends with %s", journal, l)
		}
	}
}
