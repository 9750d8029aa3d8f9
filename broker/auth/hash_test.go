package auth

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"holdfast/broker/brokertest"
)

// TestHashes: each known form takes its password and no other.
func TestHashes(t *testing.T) {
	fast, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"our own":     NewHash([]byte("secret")),
		"bcrypt":      string(fast),
		"bcrypt $2y$": "$2y$" + string(fast[4:]),
	} {
		h, err := parseHash(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for password, want := range map[string]bool{"secret": true, "": false, "secret\x00": false} {
			if got := h.verify([]byte(password)); got != want {
				t.Errorf("%s: %q: got %v", name, password, got)
			}
		}
	}
	// Of the tests of the reference implementation (phc-winner-argon2, test.c).
	h, err := parseHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil || !h.verify([]byte("password")) {
		t.Errorf("the reference's argon2id: %v", err)
	}
	if one, other := NewHash([]byte("x")), NewHash([]byte("x")); one == other {
		t.Error("two hashes with one salt")
	}
}

func TestHashesThatAreRefused(t *testing.T) {
	good := NewHash([]byte("secret"))
	for _, text := range []string{
		"", "secret", "$", "$$$", "$1$salt$hash", "$6$salt$hash", "$6$c2FsdA==$aGFzaA==", "$7$c2FsdA==$aGFzaA==",
		"$7$0$c2FsdA==$" + strings.Repeat("A", 86) + "==", "$7$99999999$c2FsdA==$" + strings.Repeat("A", 86) + "==",
		"$2b$31$" + strings.Repeat("A", 53), "$2b$10$short", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$" + strings.Repeat("A", 43),
		strings.Replace(good, "v=19", "v=16", 1), strings.Replace(good, "m=19456", "m=4194304", 1),
		strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "p=1", "p=256", 1), good[:len(good)-30], good + "$",
	} {
		if err := CheckHash(text); err == nil {
			t.Errorf("%q is taken", text)
		} else if len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats %q", text)
		}
	}
}

// TestMosquittoPasswords: files of mosquitto_passwd work as they are.
func TestMosquittoPasswords(t *testing.T) {
	program := brokertest.Program(t, "mosquitto_passwd")
	file := filepath.Join(t.TempDir(), "passwords")
	for i, args := range [][]string{
		{"-c", "-b", file, "anna", "pässword:1"}, {"-b", file, "ben", "two"}, {"-H", "sha512", "-b", file, "old", "three"},
	} {
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%d: %v: %s", i, err, out)
		}
	}
	if _, err := SetPassword(file, "carl", NewHash([]byte("four"))); err != nil {
		t.Fatal(err)
	}
	users := map[string]hash{}
	if err := readPasswords(file, users); err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"anna": "pässword:1", "ben": "two", "old": "three", "carl": "four"} {
		h, ok := users[user]
		if !ok || !h.verify([]byte(password)) || h.verify([]byte(password+"x")) {
			t.Errorf("%s: known %v, %.10s", user, ok, h.text)
		}
	}
	kinds := users["anna"].text[:3] + users["old"].text[:3] + users["carl"].text[:9]
	if kinds != "$7$$6$$argon2id" {
		t.Errorf("the kinds are %s", kinds)
	}
}

func TestPasswordFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwords")
	step := func(f func() (bool, error), existed bool, want string) {
		t.Helper()
		if got, err := f(); err != nil || got != existed {
			t.Errorf("existed %v, %v", got, err)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != want {
			t.Errorf("got %q, %v, want %q", data, err, want)
		}
	}
	set := func(user, hash string) func() (bool, error) {
		return func() (bool, error) { return SetPassword(file, user, hash) }
	}
	step(set("anna", "h1"), false, "anna:h1\n")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("# mine\n\nanna:h1\nann:x\nben:h"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	step(set("ann", "h2"), true, "# mine\n\nanna:h1\nann:h2\nben:h\n")
	step(set("carl", "h3"), false, "# mine\n\nanna:h1\nann:h2\nben:h\ncarl:h3\n")
	step(func() (bool, error) { return DeletePassword(file, "anna") }, true, "# mine\n\nann:h2\nben:h\ncarl:h3\n")
	step(func() (bool, error) { return DeletePassword(file, "anna") }, false, "# mine\n\nann:h2\nben:h\ncarl:h3\n")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, user := range []string{"", "a:b", "a\nb", "#a", " a"} {
		if _, err := SetPassword(file, user, "h"); err == nil {
			t.Errorf("%q is taken", user)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPasswordFileMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwords")
	hash := NewHash([]byte("x"))
	if err := os.WriteFile(file, fmt.Appendf(nil, "anna:%s\r\n# c\nben\nanna:%[1]s\ncarl:plain\n:x\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{PasswordFile: file})
	want := file + `:3: want NAME:HASH
` + file + `:4: "anna" is a user already
` + file + `:5: the password of "carl" ` + errPlain.Error() + "\n" + file + ":6: want NAME:HASH"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = New(Options{PasswordFile: file + "x", ACLFile: filepath.Dir(file)})
	want = "password_file " + file + "x: no such file\nacl_file " + filepath.Dir(file) + ": want a file of at most 4 MiB"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
