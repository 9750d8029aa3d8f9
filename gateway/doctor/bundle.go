package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
)

// Bundle writes an archive for remote help: the findings, the configuration without its
// secrets, the state of the journal without its messages, versions, and the newest log lines.
// The user can inspect it with tar before sending it.
// Journal is the output of `holdfast journal info`.
func Bundle(ctx context.Context, w io.Writer, s Subject, m Machine, fs []Finding, version, journal string) error {
	b := &bundle{now: m.Now(), secrets: secretsOf(s.Config)}
	z := gzip.NewWriter(w)
	b.tar = tar.NewWriter(z)

	var text, asJSON bytes.Buffer
	Print(&text, fs)
	if err := PrintJSON(&asJSON, fs); err != nil {
		return err
	}
	b.add("doctor.txt", text.String())
	b.add("doctor.json", asJSON.String())
	for i, file := range s.Files {
		b.add(fmt.Sprintf("config/%d-%s", i+1, filepath.Base(file)), redactedFile(file))
	}
	b.add("journal.txt", journal)
	e := &examination{m: m}
	b.add("versions.txt", strings.Join([]string{
		"holdfast " + version, e.read("proc/version"), strings.Trim(e.read("sys/firmware/devicetree/base/model"), "\x00"),
		e.read("etc/os-release"), "uptime " + e.read("proc/uptime"), e.read("proc/cmdline"), e.read("proc/mounts"), e.bootConfig(),
	}, "\n\n")+"\n")
	for name, command := range map[string][]string{
		"log.txt":     {"journalctl", "-u", "holdfast", "-n", "2000", "--no-pager", "-o", "short-iso"},
		"kernel.txt":  {"journalctl", "-k", "-n", "300", "--no-pager", "-o", "short-iso"},
		"service.txt": {"systemctl", "show", "holdfast"},
	} {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		text, err := m.Run(ctx, command[0], command[1:]...)
		if err != nil {
			text += fmt.Sprintf("%s: %v\n", strings.Join(command, " "), err)
		}
		cancel()
		b.add(name, text)
	}
	return errors.Join(b.err, b.tar.Close(), z.Close())
}

type bundle struct {
	tar     *tar.Writer
	now     time.Time
	secrets []string
	err     error
}

// maxFile bounds a file of the archive. Logs grow at their end, which is kept.
const maxFile = 2 << 20

func (b *bundle) add(name, text string) {
	if len(text) > maxFile {
		text = "...\n" + text[len(text)-maxFile:]
	}
	for _, s := range b.secrets { // however it came there
		text = strings.ReplaceAll(text, s, "********")
	}
	if b.err != nil {
		return
	}
	header := &tar.Header{Name: "holdfast/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.now, Format: tar.FormatPAX}
	if b.err = b.tar.WriteHeader(header); b.err == nil {
		_, b.err = io.WriteString(b.tar, text)
	}
}

func redactedFile(file string) string {
	text, err := os.ReadFile(file)
	if err == nil {
		text, _, err = config.Redact(text)
	}
	if err != nil {
		return fmt.Sprintf("%s: %v\n", file, err)
	}
	return string(text)
}

func holdsSecret(text []byte) bool {
	_, found, err := config.Redact(text)
	return err == nil && found
}

// secretsOf are the values that must not leave the device, the longest first.
func secretsOf(cfg *config.Config) (all []string) {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		if s, ok := v.Interface().(config.Secret); ok {
			// Text of a few letters would turn up, and be replaced, everywhere.
			if len(s) >= 4 {
				all = append(all, string(s))
			}
			return
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		}
	}
	if cfg != nil {
		walk(reflect.ValueOf(cfg.Broker))
		walk(reflect.ValueOf(cfg.Bridges))
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}
