package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// store is a journal with a gateway's readers.
type store struct {
	t       *testing.T
	dataDir string
	j       *journal.Journal
	owed    []journal.Owed
	readers []*journal.Reader
	waits   sync.WaitGroup
	errs    []error // guarded by the journal's one completing goroutine, until waits is done
}

func newStore(t *testing.T) *store {
	s := &store{t: t, dataDir: t.TempDir()}
	s.open()
	return s
}

func (s *store) open() {
	fs, err := journal.NewDirFS(filepath.Join(s.dataDir, "journal"))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.j, err = journal.Open(journal.Options{FS: fs, MaxSize: 2 << 20}); err != nil {
		s.t.Fatal(err)
	}
	s.owed, s.readers = nil, nil
	for _, name := range []string{"bridge/cloud", "session/late"} {
		r, err := s.j.OpenReader(name)
		if err != nil {
			s.t.Fatal(err)
		}
		s.readers = append(s.readers, r)
		s.owed = append(s.owed, journal.Owed{Reader: r, QoS: 1})
	}
}

func (s *store) Committed(_ *journal.Entry, _ uint64, err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
	s.waits.Done()
}

// publish appends messages, owed to the first so many readers, and waits until they are on disk.
func (s *store) publish(readers int, messages ...broker.Message) {
	s.t.Helper()
	for i := range messages {
		s.waits.Add(1)
		if err := s.j.Append(journal.Entry{Message: &messages[i], Owed: s.owed[:readers], Done: s}); err != nil {
			s.t.Fatal(err)
		}
	}
	s.waits.Wait()
	if len(s.errs) > 0 {
		s.t.Fatal(s.errs[0])
	}
}

func (s *store) close() {
	s.t.Helper()
	if err := s.j.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) segments() []string {
	names, _ := filepath.Glob(filepath.Join(s.dataDir, "journal", "*.seg"))
	return names
}

func readings(from, to int) (messages []broker.Message) {
	for n := from; n < to; n++ {
		messages = append(messages, broker.Message{Topic: fmt.Sprintf("sensors/%d", n%3), Payload: fmt.Append(nil, n), QoS: 1})
	}
	return messages
}

// call runs the program and returns what it prints, and its exit code.
func (s *store) call(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, log bytes.Buffer
	cmd := exec.Command(program, append([]string{"journal", "--data-dir", s.dataDir}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// expect runs the program and looks for what it has to print.
func (s *store) expect(code int, want []string, args ...string) string {
	s.t.Helper()
	out, log, got := s.call(args...)
	if got != code {
		s.t.Errorf("%s: exit code %d, want %d\n%s%s", args, got, code, out, log)
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(strings.Fields(out+log), " "), w) {
			s.t.Errorf("%s: %q is missing in\n%s%s", args, w, out, log)
		}
	}
	return out
}

func (s *store) export(args ...string) (list []exported) {
	s.t.Helper()
	out := s.expect(0, nil, append([]string{"export"}, args...)...)
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	for d.More() {
		var e exported
		if err := d.Decode(&e); err != nil {
			s.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// TestJournalCommands looks at a journal while it is open, and after.
func TestJournalCommands(t *testing.T) {
	s := newStore(t)
	s.publish(1, readings(0, 100)...)
	s.publish(2, broker.Message{Topic: "raw/<x>", Payload: []byte{0xff, 0, 1}, QoS: 2, Retain: true}, broker.Message{Topic: "sensors/0", Payload: []byte("gr\u00fcn"), QoS: 1})
	r := s.readers[0]
	r.Attach()
	for range 40 {
		d, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		r.Ack(d.Seq)
	}
	s.publish(0, readings(100, 101)...) // takes the acknowledgements along
	for _, running := range []bool{true, false} {
		use := fmt.Sprintf("in use by process %d", os.Getpid())
		if !running {
			s.close()
			use = "in use no"
		}
		s.expect(0, []string{use, "format version 3", "flash ", "messages 103 since", "lost nothing", "bridge/cloud 0 62 41 41, 20", "session/late 0 2 1 101, 20"}, "info")
		s.expect(0, []string{"1..103", "bridge/cloud 62, session/late 2"}, "ls")
		s.expect(0, []string{"nothing was lost"}, "losses")
		s.expect(0, []string{"103 are messages", "no damage"}, "verify")
		s.expect(0, []string{"message sensors/0 0 bridge/cloud:done", "message sensors/0 99 bridge/cloud:waits", "ack bridge/cloud all below 41", "set journal/reader/session/late="}, "cat")
		if out := s.expect(0, nil, "cat", "--kind", "message", "--topic", "raw/+", "--from", "90"); strings.Count(out, "\n") != 1 {
			t.Errorf("cat of one topic: %s", out)
		}
		if out := s.expect(0, nil, "cat", "--kind", "message", "--from", "5", "--to", "7"); strings.Count(out, "\n") != 3 {
			t.Errorf("cat of three numbers: %s", out)
		}
		if out := s.expect(0, nil, "cat", "--reader", "session/late", "--kind", "message"); strings.Count(out, "\n") != 2 {
			t.Errorf("cat of one reader: %s", out)
		}
		list := s.export()
		if len(list) != 62 || list[0].Seq != 41 || *list[0].Payload != "40" || list[0].Topic != "sensors/1" || list[0].Time.IsZero() {
			t.Fatalf("export: %d messages, the first is %+v", len(list), list[0])
		}
		raw := list[60]
		if b, err := base64.StdEncoding.DecodeString(raw.PayloadBase64); err != nil || !bytes.Equal(b, []byte{0xff, 0, 1}) ||
			raw.Payload != nil || raw.QoS != 2 || !raw.Retain || raw.Topic != "raw/<x>" || strings.Join(raw.Owed, " ") != "bridge/cloud session/late" {
			t.Errorf("export: %+v", raw)
		}
		if n := len(s.export("--all")); n != 103 {
			t.Errorf("export --all: %d messages, want 103", n)
		}
		if list := s.export("--reader", "session/late"); len(list) != 2 || *list[1].Payload != "gr\u00fcn" {
			t.Errorf("export of one reader: %+v", list)
		}
		if n := len(s.export("--topic", "sensors/1", "--to", "60")); n != 7 {
			t.Errorf("export of one topic: %d messages, want 7", n)
		}
	}
	s.expect(0, []string{"nothing to repair"}, "repair")
}

// TestJournalLosses: a limit drops messages that are queued for a reader.
func TestJournalLosses(t *testing.T) {
	s := newStore(t)
	big := bytes.Repeat([]byte("x"), 10_000)
	for n := range 40 {
		var list []broker.Message
		for range 10 {
			list = append(list, broker.Message{Topic: fmt.Sprint("t/", n), Payload: big, QoS: 1})
		}
		s.publish(2, list...)
	}
	s.expect(0, []string{"READER FIRST LAST MESSAGES READINGS REASON TIME ", "bridge/cloud 1 ", "session/late 1 ", "max_size"}, "losses")
	out := s.expect(0, nil, "losses", "--json")
	var l struct {
		Reader, Reason     string
		First, Last, Count uint64
		Time               time.Time
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&l); err != nil || l.First != 1 || l.Count != l.Last || l.Reason != "max_size" || l.Time.IsZero() {
		t.Errorf("%+v, %v", l, err)
	}
	s.close()
	s.expect(0, []string{"see 'holdfast journal losses'"}, "info")
	s.expect(2, []string{"waits for", "--yes"}, "forget", "session/late")
	s.expect(1, []string{`there are: ["bridge/cloud" "session/late"]`}, "forget", "session/never", "--yes")
	s.expect(0, []string{"session/late is forgotten"}, "forget", "session/late", "--yes")
	s.expect(0, []string{"no damage"}, "verify")
	if out := s.expect(0, nil, "info"); strings.Contains(out, "session/late") {
		t.Errorf("still there:\n%s", out)
	}
}

// TestUnknownLosses: of a journal whose files are zeroed, emptied or random, no command says that nothing was lost.
func TestUnknownLosses(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"zeros":  func(b []byte) []byte { return make([]byte, len(b)) },
		"empty":  func([]byte) []byte { return nil },
		"random": func(b []byte) []byte { rand.Read(b); return b },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.publish(2, readings(0, 100)...)
			s.close()
			files, _ := filepath.Glob(filepath.Join(s.dataDir, "journal", "*.s*"))
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err == nil {
					err = os.WriteFile(file, spoil(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			const said = "an unknown number of messages of -: the journal was damaged, emptied or went back in time"
			config := filepath.Join(t.TempDir(), "pi.yaml")
			text := fmt.Sprintf("data_dir: %s\nweb: {url: off}\nbroker: {listeners: [{url: \"mqtt://127.0.0.1:0\"}]}\njournal: {max_size: 32MiB, keep_free: 0B}\n", s.dataDir)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			look := func() {
				t.Helper()
				out := s.expect(0, []string{"lost " + said}, "info")
				out += s.expect(0, []string{"an unknown number", "unknown"}, "losses")
				if strings.Contains(strings.Join(strings.Fields(out), " "), "lost nothing") || strings.Contains(out, "nothing was lost") {
					t.Errorf("nothing is said to be lost:\n%s", out)
				}
				if r := holdfast(t, "", "doctor", "-c", config); !strings.Contains(r.out, said) {
					t.Errorf("doctor says nothing of it: %s%s", r.out, r.errs)
				}
			}
			look()
			fs, err := journal.NewDirFS(filepath.Join(s.dataDir, "journal"))
			if err != nil {
				t.Fatal(err)
			}
			j, err := journal.Open(journal.Options{FS: fs})
			if err == nil {
				err = j.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			look()
		})
	}
}

// TestJournalDamage damages a record and mends the journal.
func TestJournalDamage(t *testing.T) {
	s := newStore(t)
	s.publish(1, readings(0, 100)...)
	s.expect(1, []string{fmt.Sprintf("in use by process %d", os.Getpid())}, "repair")
	s.expect(1, []string{fmt.Sprintf("in use by process %d", os.Getpid())}, "forget", "bridge/cloud", "--yes")
	s.close()
	name := s.segments()[0]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("sensors/075"))
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	base := filepath.Base(name)
	s.expect(1, []string{base + ": at ", "bytes do not match their checksum: message 76 is missing; owed in all of this file: bridge/cloud 1", "1 damaged place", "holdfast journal repair"}, "verify")
	s.expect(0, []string{"message 76 is missing", base + ": kept as " + base + ".damaged", "repaired"}, "repair")
	kept, err := os.ReadFile(name + ".damaged")
	if err != nil || !bytes.Equal(kept, b) {
		t.Errorf("the damaged file was not kept as it was: %v", err)
	}
	s.expect(0, []string{"message 76 is missing", "(repaired)", "set aside earlier", "no damage"}, "verify")
	if n := len(s.export()); n != 99 {
		t.Errorf("%d messages, want 99", n)
	}
	s.open()
	r := s.readers[0]
	r.Attach()
	for range 99 {
		d, ok, err := r.TryNext()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		r.Ack(d.Seq)
	}
	s.close()
	s.expect(0, []string{"bridge/cloud 76 76 1 - damage"}, "losses")
}

func TestJournalMistakes(t *testing.T) {
	s := newStore(t)
	s.close()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "no such kind: there are: message, state", []string{"cat", "--kind", "msg"}},
		{2, "no such reader: there are:", []string{"export", "--reader", "x"}},
		{2, "--topic: malformed topic", []string{"export", "--topic", "a/#/b"}},
		{2, "--to 3 is below --from 7", []string{"cat", "--from", "7", "--to", "3"}},
		{2, "unexpected argument", []string{"info", "x"}},
		{2, "unknown command", []string{"inof"}},
		{2, "want the name of one reader", []string{"forget"}},
		{1, "no such directory: name the data_dir", []string{"info", "--data-dir", filepath.Join(s.dataDir, "none")}},
		{2, "--data-dir DIR", []string{"info", "--data-dir", "", "-c", filepath.Join(s.dataDir, "none.yaml")}},
	} {
		s.expect(c.code, []string{c.want}, c.args...)
	}
	config := filepath.Join(s.dataDir, "holdfast.yaml")
	if err := os.WriteFile(config, []byte("data_dir: "+s.dataDir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect(0, []string{"in use no"}, "info", "--data-dir", "", "-c", config)
}

func TestMeter(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	show, end := meter(&out, "verifying", func() time.Time { return now })
	show(1, 100)
	if out.Len() > 0 {
		t.Errorf("shown at once: %q", out.String())
	}
	for range 8 {
		now = now.Add(200 * time.Millisecond)
		show(50<<20, 100<<20)
	}
	end()
	if got := out.String(); !strings.HasPrefix(got, "\rverifying  50 % of 100.0 MiB ") || strings.Count(got, "verifying") != 2 || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("got %q", got)
	}
}
