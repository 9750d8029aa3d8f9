package views

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/progress"
	"holdfast/gateway/status"
)

// hangingDisk is a directory of which each fdatasync waits while hang is open.
type hangingDisk struct {
	journal.FS
	hang chan struct{}
}

func (h *hangingDisk) Open(name string, write bool) (journal.File, error) {
	f, err := h.FS.Open(name, write)
	return hangingFile{f, h}, err
}

type hangingFile struct {
	journal.File
	disk *hangingDisk
}

func (f hangingFile) Datasync() error {
	if f.disk.hang != nil {
		<-f.disk.hang
	}
	return f.File.Datasync()
}

// TestHealthOfAStalledJournal: /readyz and /healthz answer at once while the disk hangs in a commit, with 503 and for how
// long as soon as that takes too long, and with 200 when it goes on.
func TestHealthOfAStalledJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := journal.NewDirFS(filepath.Join(t.TempDir(), "journal"))
		if err != nil {
			t.Fatal(err)
		}
		disk := &hangingDisk{FS: dir}
		a := &Views{Sources: Sources{Progress: progress.New()}}
		if a.Journal, err = journal.Open(journal.Options{FS: disk, MaxSize: 2 << 20}); err != nil {
			t.Fatal(err)
		}
		if a.Server, err = server.New(server.Options{Journal: a.Journal}); err != nil {
			t.Fatal(err)
		}
		a.Listeners = func() []status.Listener { return nil }
		a.phase.Store(status.Running)
		synctest.Wait()
		check := func(when, ready, health string) {
			t.Helper()
			for _, c := range []struct {
				handler http.Handler
				wrong   string
			}{{a.Readyz(), ready}, {a.Healthz(), health}} {
				w := httptest.NewRecorder()
				asked := time.Now()
				c.handler.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				code := http.StatusOK
				if c.wrong != "" {
					code = http.StatusServiceUnavailable
				}
				if w.Code != code || !strings.Contains(w.Body.String(), c.wrong) || time.Since(asked) > time.Second {
					t.Errorf("%s: got %d %q after %v, want %d %q", when, w.Code, w.Body, time.Since(asked), code, c.wrong)
				}
			}
		}
		check("idle", "", "")
		hang := make(chan struct{})
		disk.hang = hang
		publish := func() {
			if err := a.Server.Publish(&broker.Message{Topic: "a", QoS: 1, Retain: true, Payload: []byte("x")}, server.PublishOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		publish()
		time.Sleep(stalledAfter)
		check("not long enough", "", "")
		time.Sleep(10*time.Second - stalledAfter) // the promise
		check("after 10 s", "journal: no progress for 10s", "loops: no progress: journal, for 10s")
		publish() // what comes meanwhile changes nothing
		time.Sleep(time.Hour)
		check("after an hour", "journal: no progress for 1h0m10s", "loops: no progress: journal, for 1h0m10s")
		close(hang)
		synctest.Wait()
		check("it goes on", "", "")
		if err := a.Journal.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
