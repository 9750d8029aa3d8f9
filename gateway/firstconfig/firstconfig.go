// Package firstconfig writes the first configuration of a device.
//
// It promises that the configuration passes the same check as any other before anything of it is on the disk;
// that it overwrites no file without being asked, and keeps an overwritten one as FILE.old; and that a password
// is in a file of its own, readable by its owner and the service only. It does not test whether the upstream
// answers, and it starts nothing.
package firstconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/gateway/config"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/scan"
)

// Answers are a person's answers about a device.
type Answers struct {
	Device   string
	Upstream string // URL; empty for no bridge yet
	User     string // on the upstream; empty for none
	Password []byte // of the user; in a file of its own
	DataDir  string // empty for the default
	Simulate bool   // sensors on simulated buses instead of what Found has
	Found    *scan.Result
}

const (
	schemaName = "holdfast.schema.json"
	group      = "holdfast" // of the service
)

// Write makes the configuration and writes it to file, with the password and the schema beside it. It calls check
// first, on files in a private directory. It returns the names of the files that it has written.
func Write(file string, a Answers, force bool, check func(file string) error) (written []string, err error) {
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	password := base + ".password"
	schema, err := config.Schema(chips.Drivers(), outputs.Drivers())
	if err != nil {
		return nil, err
	}
	type part struct {
		name  string
		data  []byte
		mode  fs.FileMode
		spare bool // safe to replace: it holds nothing of the user's
	}
	parts := []part{{filepath.Base(file), []byte(compose(a, password)), 0o640, false}, {schemaName, append(schema, '\n'), 0o644, true}}
	if a.User != "" {
		parts = append([]part{{password, append(a.Password, '\n'), 0o640, false}}, parts...)
	}
	dir := filepath.Dir(file)
	for _, p := range parts {
		if _, err := os.Lstat(filepath.Join(dir, p.name)); err == nil && !force && !p.spare {
			return nil, fmt.Errorf("%s exists: give another name with --out, or --force to replace it (what is there is kept as %s.old)", filepath.Join(dir, p.name), p.name)
		}
	}
	trial, err := os.MkdirTemp("", "holdfast-init-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(trial)
	for _, p := range parts {
		if err := os.WriteFile(filepath.Join(trial, p.name), p.data, 0o600); err != nil {
			return nil, err
		}
	}
	if err := check(filepath.Join(trial, filepath.Base(file))); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, p := range parts {
		name := filepath.Join(dir, p.name)
		if err := place(name, p.data, p.mode, force && !p.spare); err != nil {
			return written, err
		}
		written = append(written, name)
	}
	return written, nil
}

// place writes a file whole or not at all. If root runs it, the service's group may read the file.
func place(name string, data []byte, mode fs.FileMode, keep bool) error {
	gid := -1
	if g, err := user.LookupGroup(group); err == nil && os.Geteuid() == 0 {
		gid, _ = strconv.Atoi(g.Gid)
	} else if mode&0o007 == 0 {
		mode = 0o600
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".holdfast-*")
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s cannot be written (%w): use sudo, or another place with --out", name, err)
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // there is nothing of that name once it has been renamed
	_, err = f.Write(data)
	if err == nil && gid >= 0 {
		err = f.Chown(-1, gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if keep {
		if err := os.Rename(name, name+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(f.Name(), name)
}

// compose is the configuration's text.
func compose(a Answers, password string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# yaml-language-server: $schema=%s", schemaName)
	line("#")
	line("# holdfast check -c FILE checks it after a change, holdfast sensors NAME says everything about a driver.")
	line("")
	line("device:")
	line("  id: %s   # first level after sensors/ in every topic", text(a.Device))
	line("")
	if a.DataDir != "" {
		line("data_dir: %s", text(a.DataDir))
	} else {
		line("# data_dir: /var/lib/holdfast   # everything durable")
	}
	line("")
	line("broker:")
	line("  listeners:")
	line("    - url: mqtt://127.0.0.1:1883  # for programs on this device; others need users, see the example site.yaml")
	line("")
	line("journal:")
	line("  max_size: 2GiB                # at this size the oldest message gives way, and is counted")
	line("  keep_free: 256MiB             # and at this little free space on the card")
	line("  commit_every: 1s              # readings share a write to the card; raise it to spare the card")
	line("")
	off := ""
	if a.Upstream == "" {
		off = "# "
		line("# Where readings go. Until then they are served by the local broker alone, and not kept.")
	}
	line("%sbridges:", off)
	line("%s  - name: upstream", off)
	if a.Upstream == "" {
		line("#     upstream: [\"mqtt://broker.example:1883\"]")
	} else {
		line("    upstream: [%s]", text(a.Upstream))
	}
	line("%s    client_id: ${device.id}     # no other client of the upstream may have the same", off)
	if a.User != "" {
		line("    username: %s", text(a.User))
		line("    password: %s", text("${file:"+password+"}"))
	}
	line("%s    out:", off)
	line("%s      - filter: \"sensors/#\"", off)
	line("%s        qos: 1                  # kept until the upstream has acknowledged it", off)
	line("%s        prefix: \"\"              # put in front of the topic there, such as sites/north/", off)
	line("%s      - filter: \"status/#\"       # how the sensors are, and whether this device is there", off)
	line("")
	if a.Simulate {
		b.WriteString(simulated)
	} else {
		b.WriteString(strings.TrimSuffix(a.Found.YAML(chips.Drivers()), "  []\n") + machine)
	}
	return b.String()
}

// machine is there without any wiring: a first reading, and what a device in the field is asked first.
const machine = `  - name: machine
    driver: system              # load, memory, disk; on a Pi under-voltage and throttling
    every: 10s
`

const simulated = `# Models of chips, for any Linux machine. With hardware, holdfast scan prints what takes their place.
sensors:
  - {name: air, driver: bme280, bus: simulated, every: 1s}
  - {name: tank, driver: ads1115, bus: simulated, every: 2s}
  - {name: soil, driver: ds18b20, bus: simulated, every: 5s}
  - {name: door, driver: gpio-input, bus: simulated, line: 17, every: 5s}
  - {name: board, driver: cpu, bus: simulated, every: 5s}
`

// text is a value as YAML: what Go escapes in quotes, YAML escapes likewise.
func text(s string) string { return strconv.Quote(s) }
