package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Client talks to a gateway that runs.
type Client struct {
	Paths []string // where its socket may be, likeliest first
}

// Find returns a client for a gateway with this configuration, which another user may have started: under systemd
// its socket is below /run where its data is below /var/lib.
func Find(configured, dataDir string) Client {
	if configured != "" {
		return Client{[]string{configured}}
	}
	paths := []string{filepath.Join(dataDir, name)}
	if unit, ok := strings.CutPrefix(dataDir, "/var/lib/"); ok {
		paths = append([]string{filepath.Join("/run", unit, name)}, paths...)
	}
	if here := Path("", dataDir); !slices.Contains(paths, here) { // called by systemd, as ExecReload= is
		paths = append([]string{here}, paths...)
	}
	return Client{paths}
}

// Do sends a request, such as GET of "/status", and returns the answer, whose body the caller closes. An
// answer that is not a success is an error with what it says.
func (c Client) Do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return nil, err
	}
	h := http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}}
	answer, err := h.Do(r)
	var failed *dialError
	if errors.As(err, &failed) {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		if answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusMethodNotAllowed {
			return nil, fmt.Errorf("the gateway that runs does not know %s %s: is it an older holdfast? Restart it", method, path)
		}
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return answer, nil
}

// Changed is what the gateway answers to a request to change something.
type Changed struct {
	Changes []string `json:"changes"` // what is different, in words
}

// Get decodes the JSON that is at path.
func (c Client) Get(ctx context.Context, path string, to any) error {
	answer, err := c.Do(ctx, http.MethodGet, path, nil)
	return decode(answer, err, path, to)
}

// Post sends v as JSON, or nothing if it is nil, and decodes the answer. What the gateway refuses is an error
// with its reason.
func (c Client) Post(ctx context.Context, path string, v, to any) error {
	var body bytes.Buffer
	if v != nil {
		if err := json.NewEncoder(&body).Encode(v); err != nil {
			return err
		}
	}
	answer, err := c.Do(ctx, http.MethodPost, path, &body)
	return decode(answer, err, path, to)
}

func decode(answer *http.Response, err error, path string, to any) error {
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if to == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(to); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: is it another version of holdfast that runs? %w", path, err)
	}
	return nil
}

// Absent reports whether certainly no gateway runs: one that this user may not ask, or that is too busy, may.
func (c Client) Absent(ctx context.Context) bool {
	for _, path := range c.Paths {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return false
		}
	}
	return true
}

// dialError returns an error with the reason why no gateway answers, and the remedy.
type dialError struct{ text string }

func (e *dialError) Error() string { return e.text }

// dial tries each path. The one that exists, or may exist, says more about what is wrong.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	var worst error
	for _, path := range c.Paths {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return nc, nil
		case errors.Is(err, fs.ErrPermission):
			return nil, &dialError{fmt.Sprintf("%s: this user may not talk to holdfast: use sudo, or add the user to the socket's group", path)}
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED):
			worst = err
		}
	}
	text := fmt.Sprintf("holdfast does not run: nothing answers at %s: start it, or name its configuration with -c or its socket with --socket",
		strings.Join(c.Paths, " or "))
	if worst != nil {
		text += fmt.Sprintf(" (%v)", worst)
	}
	return nil, &dialError{text}
}
