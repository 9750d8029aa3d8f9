package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/wire"
)

// unreadable is a directory that opens and cannot be listed.
type unreadable struct{ brokenFS }

func (u unreadable) List() ([]journal.FileInfo, error) { return nil, u.cause }

// locked is a directory that cannot be taken.
type locked struct{ brokenFS }

func (l locked) Lock() (io.Closer, error) { return nil, l.cause }

// TestTheStorageFails: the gateway starts, measures and delivers live, moves outputs, and acknowledges
// nothing that would have to be kept.
func TestTheStorageFails(t *testing.T) {
	for name, open := range map[string]func(error) (journal.FS, error){
		"directory": func(err error) (journal.FS, error) { return nil, err },
		"lock":      func(err error) (journal.FS, error) { return locked{brokenFS{err}}, nil },
		"list":      func(err error) (journal.FS, error) { return unreadable{brokenFS{err}}, nil },
	} {
		for _, cause := range []error{unix.EIO, unix.EROFS, unix.ENOSPC, unix.EUCLEAN} {
			t.Run(fmt.Sprint(name, " ", cause), func(t *testing.T) {
				var log bytes.Buffer
				s := planSite(t, relays+`sensors:
  - {name: air, driver: bme280, bus: simulated, every: 20ms}
bridges:
  - {name: up, upstream: ["mqtt://`+brokertest.FreeAddress(t)+`"], out: [{filter: "x/#"}]}
`)
				s.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
				s.opts.seams.openDisk = func(dir string) (journal.FS, error) {
					return open(&fs.PathError{Op: "test", Path: dir, Err: cause})
				}
				s.start()
				for range 3 {
					s.hear("sensors/site/air/temperature", func(m message) bool { return m.Value != nil })
				}
				s.publish(wire.Publish{Topic: "outputs/site/pump/set", Payload: []byte("on")})
				if r := s.result("pump"); r.Result != "done" {
					t.Errorf("a command of QoS 0: %+v", r)
				}
				other := brokertest.Dial(t, s.agent.made.server.Addrs()[0].String(), wire.V5)
				other.Connect(wire.Connect{ClientID: "other", CleanStart: true})
				for topic, want := range map[string]wire.Code{"y/nobody": wire.Success, "x/bridge": wire.Unspecified} {
					other.Send(&wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: []byte("x")})
					if a := brokertest.Receive[*wire.Ack](other); a.Code != want {
						t.Errorf("%s: answer %v, want %v", topic, a.Code, want)
					}
				}
				if st := s.agent.Status(); !st.Journal.Failed || !strings.Contains(st.Journal.Broken, cause.Error()) {
					t.Errorf("stats: failed %v, %q", st.Journal.Failed, st.Journal.Broken)
				}
				s.stop()
				if text := log.String(); strings.Count(text, "storage of the journal fails") != 1 || !strings.Contains(text, "choose another data_dir") {
					t.Errorf("logged:\n%s", text)
				}
			})
		}
	}
}

// TestAPersonHasToAct: what is no failure of the storage ends the start, so that no journal is left behind.
func TestAPersonHasToAct(t *testing.T) {
	for name, fsys := range map[string]func(dir string) (journal.FS, error){
		"permission": func(dir string) (journal.FS, error) {
			return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: unix.EACCES}
		},
		"in use": func(dir string) (journal.FS, error) {
			d, err := journal.NewDirFS(dir)
			if err != nil {
				return nil, err
			}
			lock, err := d.Lock()
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { lock.Close() })
			return d, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := planSite(t, "")
			s.opts.seams.openDisk = fsys
			if a, err := New(s.load(), s.opts); err == nil {
				a.close.closeAll()
				t.Error("it starts")
			} else if !strings.Contains(err.Error(), "choose") || errors.Is(err, unix.EIO) {
				t.Errorf("no remedy: %v", err)
			}
		})
	}
}
