package config

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	text := `# password: hunter1
bridges:
  - name: a
    password: hunter2  # hunter3
  - {name: b, password: "hunter4", upstream: ["mqtt://me:hunter5@host"]}
  - name: c
    password: |
      hunter6
  - name: d
    Password: 'hunter7'
  - name: e
    password: ${file:secret.txt}
    client_id: plain
  - name: f
    password: [hunter8, {x: hunter9}]
broker: {users: [{name: u, password_hash: hunter0}]}
`
	out, found, err := Redact([]byte(text))
	if err != nil || !found || strings.Contains(string(out), "hunter") {
		t.Errorf("%v %v\n%s", found, err, out)
	}
	for _, stays := range []string{"${file:secret.txt}", "plain", "@host", "name: u"} {
		if !strings.Contains(string(out), stays) {
			t.Errorf("%s is gone:\n%s", stays, out)
		}
	}
	if out, found, err := Redact([]byte("bridges: [{name: a, password: \"${env:X}\"}]")); err != nil || found {
		t.Errorf("a reference is no secret: %s %v", out, err)
	}
	for _, bad := range []string{"", "a: [", "\tpassword: x"} {
		if out, _, err := Redact([]byte(bad)); err == nil || out != nil {
			t.Errorf("%q: %q", bad, out)
		}
	}
}
