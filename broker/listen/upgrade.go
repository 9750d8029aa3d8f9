package listen

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/gorilla/websocket"
)

// maxRequest is the most bytes that the HTTP request of an upgrade may have.
const maxRequest = 16 << 10

// WebSocket configures the server side of WebSocket.
type WebSocket struct {
	// Path is the only path served; empty serves any.
	Path string
	// Origins are the origins of pages that may connect, such as "https://dash.example"; "*" means
	// any. Pages of the same host, on any port, and programs that are not browsers may always connect.
	Origins []string
	// Hosts are further names of this device, beside addresses, localhost, its own name and those of its
	// certificate; "*" means any. A request with another name is refused: see Hosts.
	Hosts []string
}

// upgrade is a connection that becomes a WebSocket stream in its Handshake.
type upgrade struct {
	net.Conn // TCP or TLS; its deadlines are the stream's
	opts     *WebSocket
	tls      *TLS // nil for none
	stream   *stream
}

func (u *upgrade) Handshake() error {
	if u.stream != nil {
		return nil
	}
	if t, ok := u.Conn.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			return err
		}
	}
	in := bufio.NewReaderSize(io.LimitReader(u.Conn, maxRequest), frameReadBuffer)
	r, err := http.ReadRequest(in)
	if err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	a := &answer{nc: unhurried{u.Conn}, in: in, header: http.Header{}}
	ws, err := u.accept(a, r)
	if err != nil {
		a.send()
		return fmt.Errorf("websocket: %.10s %.100q from origin %.100q: %w", r.Method, r.URL.Path, r.Header.Get("Origin"), err)
	}
	u.stream = newStream(u.Conn, ws)
	return nil
}

// accept upgrades the connection, or answers with the reason of the refusal.
func (u *upgrade) accept(a *answer, r *http.Request) (*websocket.Conn, error) {
	refuse := func(code int, text string) (*websocket.Conn, error) {
		http.Error(a, text, code)
		return nil, errors.New(text)
	}
	switch {
	case u.opts.Path != "" && r.URL.Path != u.opts.Path:
		return refuse(http.StatusNotFound, "MQTT is served at "+u.opts.Path)
	case websocket.IsWebSocketUpgrade(r) && !slices.Contains(websocket.Subprotocols(r), Subprotocol):
		return refuse(http.StatusBadRequest, "the subprotocol mqtt is not among those offered") // [MQTT-6.0.0-3]
	}
	if err := (Hosts{Names: u.opts.Hosts, Origins: u.opts.Origins, TLS: u.tls}).Check(r); err != nil {
		remedy := "add it to broker.listeners[].hosts if clients use that name"
		if errors.Is(err, ErrOrigin) {
			remedy = "add it to broker.listeners[].origins if that page may connect"
		}
		err = fmt.Errorf("%w: %s", err, remedy)
		http.Error(a, err.Error(), http.StatusForbidden)
		return nil, err
	}
	up := websocket.Upgrader{
		ReadBufferSize: frameReadBuffer, WriteBufferSize: frameWriteBuffer, Subprotocols: []string{Subprotocol},
		CheckOrigin: func(*http.Request) bool { return true },
	}
	return up.Upgrade(a, r, nil)
}

func (u *upgrade) Read(p []byte) (int, error) {
	if err := u.Handshake(); err != nil {
		return 0, err
	}
	return u.stream.Read(p)
}

func (u *upgrade) Write(p []byte) (int, error) {
	if err := u.Handshake(); err != nil {
		return 0, err
	}
	return u.stream.Write(p)
}

func (u *upgrade) Close() error {
	if u.stream != nil {
		return u.stream.Close()
	}
	return u.Conn.Close()
}

// ConnectionState returns the state of the TLS below; the zero value without TLS.
func (u *upgrade) ConnectionState() tls.ConnectionState { return connectionState(u.Conn) }

// answer is the http.ResponseWriter of one request on a connection without an http.Server.
type answer struct {
	nc     net.Conn
	in     *bufio.Reader
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return a.nc, bufio.NewReadWriter(a.in, bufio.NewWriterSize(a.nc, 1)), nil
}

// send writes the answer, unless the connection was hijacked.
func (a *answer) send() {
	if a.code == 0 {
		return
	}
	r := http.Response{
		StatusCode: a.code, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Close: true,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()),
	}
	_ = r.Write(a.nc) // the connection ends in any case
}
