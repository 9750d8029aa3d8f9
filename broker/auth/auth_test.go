package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted is a hash that takes "right", and counts how often it is asked.
func counted(n *atomic.Int32) hash {
	return hash{text: "counted", verify: func(p []byte) bool { n.Add(1); return string(p) == "right" }}
}

// withUsers is an Auth with users whose passwords are cheap to check.
func withUsers(t testing.TB, users map[string]hash) *Auth {
	t.Helper()
	a, err := New(Options{Rules: []Rule{{Topic: "#", Access: ReadWrite}}})
	if err != nil {
		t.Fatal(err)
	}
	p := *a.policy.Load()
	p.users = users
	for _, h := range users {
		p.samples = append(p.samples, h)
	}
	a.policy.Store(&p)
	return a
}

var remote = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}

func login(a *Auth, user, password string) error {
	_, err := a.Login(context.Background(), Login{Username: user, Named: true, Password: []byte(password), Remote: remote})
	return err
}

func TestLogin(t *testing.T) {
	var checks atomic.Int32
	a := withUsers(t, map[string]hash{"anna": counted(&checks)})
	for _, tt := range []struct {
		l    Login
		want error
		user string
	}{
		{Login{Username: "anna", Named: true, Password: []byte("right")}, nil, "anna"},
		{Login{Username: "anna", Named: true, Password: []byte("wrong")}, ErrBadPassword, ""},
		{Login{Username: "anna", Named: true}, ErrBadPassword, ""},
		{Login{Username: "ben", Named: true, Password: []byte("right"), Anonymous: true}, ErrBadPassword, ""},
		{Login{Named: true, Anonymous: true}, ErrBadPassword, ""},
		{Login{}, ErrAnonymous, ""},
		{Login{Anonymous: true}, nil, ""},
		{Login{CN: "pump"}, nil, ""},
		{Login{CN: "pump", Username: "anna", Named: true, Password: []byte("wrong")}, ErrBadPassword, ""},
	} {
		g, err := a.Login(context.Background(), tt.l)
		if !errors.Is(err, tt.want) || err == nil && (g.id.user != tt.user || g.id.cn != tt.l.CN) {
			t.Errorf("%+v: got %+v, %v, want %v", tt.l, g, err, tt.want)
		}
	}
	// Without users a name says nothing, and is not taken for shown.
	open, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for anonymous, want := range map[bool]error{true: nil, false: ErrBadPassword} {
		g, err := open.Login(context.Background(), Login{Username: "anna", Named: true, Anonymous: anonymous})
		if !errors.Is(err, want) || g != nil && g.id.user != "" {
			t.Errorf("anonymous %v: got %+v, %v", anonymous, g, err)
		}
	}
}

// TestCost: an unknown user costs a check like a known one; a password that was right is not checked
// again; a wrong one always is.
func TestCost(t *testing.T) {
	var checks atomic.Int32
	a := withUsers(t, map[string]hash{"anna": counted(&checks)})
	for i, tt := range []struct {
		user, password string
		want           int32
	}{
		{"nobody", "right", 1}, {"anna", "wrong", 1}, {"anna", "wrong", 1}, {"anna", "right", 1}, {"anna", "right", 0},
		{"anna", "wrong", 1}, {"anna", "right", 0}, {"nobody", "right", 1},
	} {
		checks.Store(0)
		_ = login(a, tt.user, tt.password)
		if got := checks.Load(); got != tt.want {
			t.Errorf("%d: %s, %s: %d checks, want %d", i, tt.user, tt.password, got, tt.want)
		}
	}
	other := counted(&checks)
	other.text = "another hash"
	p := *a.policy.Load()
	p.users = map[string]hash{"anna": other}
	a.policy.Store(&p)
	checks.Store(0)
	if err := login(a, "anna", "right"); err != nil || checks.Load() != 1 {
		t.Errorf("after a new password: %v, %d checks", err, checks.Load())
	}
	for i := range 2 * maxRemembered {
		p := *a.policy.Load()
		p.users = map[string]hash{fmt.Sprint(i): other}
		a.policy.Store(&p)
		if err := login(a, fmt.Sprint(i), "right"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(a.remembered); n != maxRemembered {
		t.Errorf("%d passwords are remembered", n)
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		a := withUsers(t, map[string]hash{"anna": counted(&checks)})
		guesses := func(d, every time.Duration) (n int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
				if errors.Is(login(a, "anna", "guess"), ErrBadPassword) {
					n++
				}
			}
			return n
		}
		if n := guesses(time.Minute, 100*time.Millisecond); n != 6+5 { // then after 1, 3, 7, 15 and 31 seconds
			t.Errorf("%d guesses in the first minute", n)
		}
		if n := guesses(time.Hour, time.Second); n > 61 {
			t.Errorf("%d guesses in the next hour", n)
		}
		if err := login(a, "anna", "right"); !errors.Is(err, ErrThrottled) {
			t.Errorf("the right one meanwhile: %v", err)
		}
		l := Login{Username: "anna", Named: true, Password: []byte("right"), Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2)}}
		if _, err := a.Login(context.Background(), l); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
		time.Sleep(forgetAfter + time.Second)
		if err := login(a, "anna", "right"); err != nil {
			t.Errorf("later: %v", err)
		}
		// On this machine a program with a wrong password does not lock out another.
		for range 100 {
			l.Username, l.Remote, l.Password = "misconfigured", &net.UnixAddr{}, []byte("x")
			_, _ = a.Login(context.Background(), l)
		}
		l.Username, l.Password = "anna", []byte("right")
		if _, err := a.Login(context.Background(), l); err != nil {
			t.Errorf("locally: %v", err)
		}
		th := throttle{sources: map[string]*source{}}
		for i := range 2 * maxSources {
			th.failed(fmt.Sprint(i), time.Now().Add(time.Duration(i)))
		}
		if len(th.sources) != maxSources || th.sources[fmt.Sprint(maxSources)] == nil {
			t.Errorf("%d addresses are remembered", len(th.sources))
		}
	})
}

// TestBoundedWork: at most two passwords are checked at once, others wait as long as their context.
func TestBoundedWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		release := make(chan struct{})
		slow := hash{text: "slow", verify: func([]byte) bool {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release
			running.Add(-1)
			return true
		}}
		users := map[string]hash{}
		for i := range 20 {
			users[fmt.Sprint(i)] = slow
		}
		a := withUsers(t, users)
		results := make(chan error, 20)
		for i := range 20 {
			go func() { results <- login(a, fmt.Sprint(i), "x") }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := a.Login(ctx, Login{Username: "0", Named: true, Remote: remote}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(release)
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := int(most.Load()); n != cap(a.slots) || n > 2 {
			t.Errorf("%d at once", n)
		}
	})
}

func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwords")
	set := func(user, password string) {
		t.Helper()
		if _, err := SetPassword(file, user, NewHash([]byte(password))); err != nil {
			t.Fatal(err)
		}
	}
	set("anna", "one")
	set("ben", "one")
	a, err := New(Options{PasswordFile: file, Rules: []Rule{{Topic: "t", Access: Read}}})
	if err != nil {
		t.Fatal(err)
	}
	enter := func(user, password string) *Grant {
		t.Helper()
		g, err := a.Login(context.Background(), Login{Username: user, Named: true, Password: []byte(password), Remote: remote})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	anna, ben := enter("anna", "one"), enter("ben", "one")
	if changed, err := a.ReloadIfChanged(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("anna:hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := a.ReloadIfChanged(); !changed || err == nil {
		t.Errorf("a mistake: %v, %v", changed, err)
	}
	if changed, err := a.ReloadIfChanged(); changed || err != nil {
		t.Errorf("the same mistake again: %v, %v", changed, err)
	}
	if anna.Revoked() || ben.Revoked() {
		t.Error("a file with a mistake took effect")
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	set("ben", "two")
	if changed, err := a.ReloadIfChanged(); !changed || err != nil {
		t.Errorf("a change: %v, %v", changed, err)
	}
	if anna.Revoked() || !ben.Revoked() {
		t.Errorf("anna revoked %v, ben %v", anna.Revoked(), ben.Revoked())
	}
	enter("ben", "two")
	if err := a.Configure(Options{PasswordFile: file, Rules: []Rule{{Topic: "other", Access: Write}}}); err != nil {
		t.Fatal(err)
	}
	if anna.MayRead("t") || !anna.MayWrite("other") || anna.Revoked() {
		t.Error("new rules do not hold for a client that is there")
	}
	if err := a.Configure(Options{Rules: []Rule{{}}}); err == nil || !anna.MayWrite("other") {
		t.Errorf("rules with a mistake: %v", err)
	}
}

// TestDeletedDuringLogin: a user who is deleted, or gets another password, while the password is being checked does
// not come in.
func TestDeletedDuringLogin(t *testing.T) {
	for name, after := range map[string]map[string]hash{
		"kept": nil, "deleted": {}, "new password": {"anna": {text: "new", verify: func([]byte) bool { return true }}},
	} {
		a, err := New(Options{Users: []User{{"anna", NewHash([]byte("x"))}}})
		if err != nil {
			t.Fatal(err)
		}
		with := func(users map[string]hash) *policy { return &policy{users: users, guarded: true} }
		a.policy.Store(with(map[string]hash{"anna": {text: "old", verify: func([]byte) bool {
			if after != nil {
				a.policy.Store(with(after))
			}
			return true
		}}}))
		_, err = a.Login(context.Background(), Login{Username: "anna", Named: true, Password: []byte("x"), Remote: remote})
		if (err == nil) != (name == "kept") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRestore: what belongs to a client that is away has the rights of now, and none without its user.
func TestRestore(t *testing.T) {
	anna := User{"anna", NewHash([]byte("x"))}
	rules := []Rule{{Topic: "a/%u/%c", Access: ReadWrite, User: "anna"}, {Topic: "cert/%cn", Access: Read}, {Topic: "open", Access: Read}}
	a, err := New(Options{Users: []User{anna}, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	in, err := a.Login(context.Background(), Login{ClientID: "dev", Username: "anna", Named: true, Password: []byte("x"), CN: "pump", Remote: remote})
	if err != nil {
		t.Fatal(err)
	}
	away := a.Restore(in.Owner(), "dev", in.Proof())
	for _, g := range []*Grant{in, away} {
		if !g.MayRead("a/anna/dev") || !g.MayWrite("a/anna/dev") || !g.MayRead("cert/pump") || g.MayRead("a/anna/other") || g.Revoked() {
			t.Error("other rights than at the login")
		}
	}
	a.Configure(Options{Users: []User{{"anna", NewHash([]byte("y"))}}, Rules: rules[1:]})
	if away.MayRead("a/anna/dev") || !away.MayRead("open") || !away.Revoked() || a.Restore(in.Owner(), "dev", Proof{}).Revoked() {
		t.Error("after a rule and the password have changed")
	}
	a.Configure(Options{Users: []User{{"ben", anna.Hash}}, Rules: rules})
	for _, g := range []*Grant{in, away, a.Restore(in.Owner(), "dev", Proof{})} {
		if g.MayRead("a/anna/dev") || g.MayRead("open") || g.MaySubscribe("open") || !g.Revoked() {
			t.Error("rights of a user who was deleted")
		}
	}
	a.Configure(Options{})
	if away.MayWrite("a/anna/dev") {
		t.Error("a user who was deleted has rights where nothing is forbidden")
	}
}

// TestOwner: who is the same owner.
func TestOwner(t *testing.T) {
	owners := []Owner{{}, {User: "u"}, {User: "v"}, {CN: "u"}, {CN: "v"}}
	for i, o := range owners {
		for j, p := range owners {
			if o.Same(p) != (i == j) {
				t.Errorf("%v and %v: %v", o, p, o.Same(p))
			}
		}
	}
	if !(Owner{"u", "a"}).Same(Owner{"u", "b"}) || (Owner{"u", "a"}).Same(Owner{"", "a"}) {
		t.Error("a user is one whatever the certificate")
	}
}
