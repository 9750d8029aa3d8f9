package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
)

func TestPasswd(t *testing.T) {
	hash := strings.TrimSpace(must(t, holdfast(t, "secret\r\nmore\n", "passwd")))
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || auth.CheckHash(hash) != nil {
		t.Errorf("got %q", hash)
	}
	file := filepath.Join(t.TempDir(), "passwords")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"passwd", "-f", file, "anna"}, 0, ": added anna"},
		{[]string{"passwd", "-f", file, "ben"}, 0, ": added ben"},
		{[]string{"passwd", "-f", file, "anna"}, 0, ": changed anna"},
		{[]string{"passwd", "-f", file, "-D", "ben"}, 0, ""},
		{[]string{"passwd", "-f", file, "-D", "ben"}, 1, `there is no user "ben"`},
		{[]string{"passwd", "-f", file}, 2, "whose password?"},
		{[]string{"passwd", "-D", "anna"}, 2, "needs -f FILE"},
		{[]string{"passwd", "anna", "secret"}, 2, "never given on the command line"},
		{[]string{"passwd", "-f", file, "a:b"}, 2, "without ':'"},
		{[]string{"passwd", "-f", filepath.Join(file, "x"), "anna"}, 1, "not a directory"},
	} {
		if r := holdfast(t, "secret\n", tt.args...); r.code != tt.code || !strings.Contains(r.errs, tt.want) || r.out != "" {
			t.Errorf("%v: %+v", tt.args, r)
		}
	}
	for _, empty := range []string{"", "\n"} {
		if r := holdfast(t, empty, "passwd"); r.code != 2 || !strings.Contains(r.errs, "is empty") {
			t.Errorf("%q: %+v", empty, r)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || bytes.Count(data, []byte("\n")) != 1 || !bytes.HasPrefix(data, []byte("anna:$argon2id$")) {
		t.Errorf("the file is %q, %v", data, err)
	}
}

// TestPasswdTerminal: on a terminal it asks twice and shows nothing of what is typed.
func TestPasswdTerminal(t *testing.T) {
	x := onTerminal(t, "passwd")
	x.wait("Password: ")
	x.enter("secret")
	x.wait("Again: ")
	x.enter("secret")
	x.wait("$argon2id$")
	if code := x.end(); code != 0 || strings.Contains(x.seen.String(), "secret") {
		t.Errorf("code %d, seen %q", code, &x.seen)
	}
	x = onTerminal(t, "passwd")
	x.wait("Password: ")
	x.enter("secret")
	x.wait("Again: ")
	x.enter("other")
	x.wait("not the same")
	if code := x.end(); code != 1 || strings.Contains(x.seen.String(), "$argon2id$") {
		t.Errorf("code %d, seen %q", code, &x.seen)
	}
	x = onTerminal(t, "passwd")
	x.wait("Password: ")
	io.WriteString(x.in, "\x03")
	x.wait("interrupted")
	if code := x.end(); code != 1 {
		t.Errorf("Ctrl-C: code %d, seen %q", code, &x.seen)
	}
}

// session is a person at a terminal.
type session struct {
	t    *testing.T
	in   io.Writer
	seen bytes.Buffer
	cmd  *exec.Cmd
	out  io.Reader
}

// onTerminal starts the program on a pseudo-terminal.
func onTerminal(t *testing.T, args string) *session {
	t.Helper()
	x := &session{t: t, cmd: exec.Command(brokertest.Program(t, "script"), "-qec", "exec "+program+" "+args, "/dev/null")}
	x.cmd.Env = append(os.Environ(), "SHELL=/bin/sh") // which is gone after exec: Ctrl-C is for holdfast alone
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err1, err2 error
	x.in, err1 = x.cmd.StdinPipe()
	x.out, err2 = x.cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { x.cmd.Process.Kill() })
	t.Cleanup(func() { watchdog.Stop(); x.cmd.Process.Kill(); x.cmd.Wait() })
	return x
}

func (x *session) enter(line string) { io.WriteString(x.in, line+"\n") }

func (x *session) wait(text string) {
	x.t.Helper()
	b := make([]byte, 1)
	for !strings.Contains(x.seen.String(), text) {
		if _, err := x.out.Read(b); err != nil {
			x.t.Fatalf("waiting for %q: %v, seen %q", text, err, &x.seen)
		}
		x.seen.Write(b)
	}
}

func (x *session) end() int {
	io.Copy(&x.seen, x.out)
	x.cmd.Wait()
	return x.cmd.ProcessState.ExitCode()
}

// TestPasswdFileOfTheService: a file stays whose it is, and a new one of root's can be read by the group of the
// directory it is in.
func TestPasswdFileOfTheService(t *testing.T) {
	dir := t.TempDir()
	owner := func(name string) (uid, gid int, mode os.FileMode) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return int(st.Uid), int(st.Gid), info.Mode().Perm()
	}
	add := func(name string) {
		t.Helper()
		if r := holdfast(t, "secret\n", "passwd", "-f", filepath.Join(dir, name), "anna"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	add("own")
	if uid, gid, mode := owner("own"); uid != os.Geteuid() || gid != os.Getegid() || mode != 0o600 {
		t.Errorf("own: %d:%d %o", uid, gid, mode)
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	const service, group = 64123, 64124
	if err := os.Chown(dir, 0, group); err != nil {
		t.Fatal(err)
	}
	add("new")
	if uid, gid, mode := owner("new"); uid != 0 || gid != group || mode != 0o640 {
		t.Errorf("new: %d:%d %o", uid, gid, mode)
	}
	if err := os.Chown(filepath.Join(dir, "own"), service, service); err != nil {
		t.Fatal(err)
	}
	add("own")
	if uid, gid, mode := owner("own"); uid != service || gid != service || mode != 0o600 {
		t.Errorf("somebody else's: %d:%d %o", uid, gid, mode)
	}
}
