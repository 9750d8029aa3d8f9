package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rules are the users and rights of the gateway under attack. mallory, eve and boss are the attackers' own.
func rules(upstream string) string {
	text := "  users:\n"
	for _, u := range []string{"writer", "reader", "worker", "operator", "mallory", "eve"} {
		text += fmt.Sprintf("    - {name: %s, password_hash: %q}\n", u, cheapHash(u))
	}
	// What a login with the hash of `holdfast passwd` costs is a means of attack too.
	text += fmt.Sprintf("    - {name: boss, password_hash: %q}\n", costlyHash)
	text += `  password_file: passwords
  acl_file: rights
  acl:
    - {topic: "victim/#", access: write, user: writer}
    - {topic: "jobs/#", access: write, user: writer}
    - {topic: "victim/#", access: read, user: reader}
    - {topic: "down/#", access: read, user: reader}
    - {topic: "outputs/#", access: read, user: reader}
    - {topic: "status/#", access: read, user: reader}
    - {topic: "jobs/#", access: read, user: worker}
    - {topic: "outputs/site/+/set", access: write, user: operator}
    - {topic: "outputs/#", access: read, user: operator}
    - {topic: "play/#", access: readwrite, user: mallory}
    - {topic: "play/#", access: readwrite, user: boss}
    - {topic: "#", access: subscribe, user: eve}
    - {topic: "lobby/#", access: readwrite, anonymous: true}
sensors:
  - {name: machine, driver: system, every: 1s}
outputs:
  - {name: pump, driver: pca9685, bus: simulated, address: 0x40, channel: 0, safe: 0}
`
	if upstream != "" {
		text += fmt.Sprintf(`bridges:
  - name: cloud
    protocol: 5
    upstream: ["mqtt://%s"]
    out:
      - {filter: "sensors/#"}
      - {filter: "victim/#"}
      - {filter: "play/up/#"}
    in:
      - {filter: "down/#"}
`, upstream)
	}
	return text
}

// grant writes the files of users and rights, and has them read again if the gateway runs.
func (g *gateway) grant(password, rights string) error {
	for name, text := range map[string]string{"passwords": password, "rights": rights + readerRights} {
		tmp := filepath.Join(g.dir, name+".new")
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(g.dir, name)); err != nil {
			return err
		}
	}
	if g.proc == nil {
		return nil
	}
	out, err := exec.Command(g.program, "reload", "-c", g.config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reload: %w: %s", err, out)
	}
	return nil
}

// private reports whether an attacker may never be sent a message of this topic.
func private(topic string) bool {
	for _, front := range []string{"victim/", "jobs/", "outputs/", "status/", "sensors/", "down/"} {
		if strings.HasPrefix(topic, front) {
			return true
		}
	}
	return false
}
