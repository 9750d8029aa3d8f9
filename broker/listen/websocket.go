package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// Subprotocol is MQTT's name in the WebSocket handshake [MQTT-6.0.0-3].
const Subprotocol = "mqtt"

// Sizes of the buffers that a WebSocket connection has beside the reader's and writer's of MQTT.
const (
	frameReadBuffer  = 1 << 10
	frameWriteBuffer = 4 << 10
)

const (
	pongTimeout  = 30 * time.Second // of a client that does not read
	closeTimeout = time.Second      // for the close frame
)

// DialWebSocket upgrades nc, which is connected to the host of a ws or wss URL (with TLS for wss), to a
// WebSocket stream. It returns the stream and the header of the server's answer. It closes nc on failure; the
// caller sets the deadlines.
func DialWebSocket(ctx context.Context, nc net.Conn, url string) (net.Conn, http.Header, error) {
	use := func(context.Context, string, string) (net.Conn, error) { return unhurried{nc}, nil }
	d := websocket.Dialer{
		NetDialContext: use, NetDialTLSContext: use, Subprotocols: []string{Subprotocol},
		ReadBufferSize: frameReadBuffer, WriteBufferSize: frameWriteBuffer,
	}
	ws, response, err := d.DialContext(ctx, url, nil)
	switch {
	case err != nil && response != nil:
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // the library keeps the body in memory
		nc.Close()
		return nil, response.Header, fmt.Errorf("%w: %s %s", err, response.Status, bytes.TrimSpace(text))
	case err != nil:
		nc.Close()
		return nil, nil, err
	case ws.Subprotocol() != Subprotocol:
		nc.Close()
		return nil, response.Header, fmt.Errorf("websocket: the server chose the subprotocol %q, want %s", ws.Subprotocol(), Subprotocol) // [MQTT-6.0.0-4]
	}
	return newStream(nc, ws), response.Header, nil
}

// unhurried is a connection for the WebSocket library, which sets deadlines of its own over those of
// the stream: it may do so only where it has one.
type unhurried struct{ net.Conn }

func (unhurried) SetDeadline(time.Time) error     { return nil }
func (unhurried) SetReadDeadline(time.Time) error { return nil }
func (u unhurried) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	return u.Conn.SetWriteDeadline(t)
}

// stream makes a byte stream of the binary messages of a WebSocket connection. The library has
// unhurried{Conn}.
type stream struct {
	net.Conn
	ws  *websocket.Conn
	r   io.Reader // the rest of a message
	err error     // of reading, for good
}

func newStream(nc net.Conn, ws *websocket.Conn) *stream {
	ws.SetPingHandler(func(data string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongTimeout))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	return &stream{Conn: nc, ws: ws}
}

// Read reads on where the last message ended: packets need not be aligned to messages [MQTT-6.0.0-2].
func (s *stream) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.r == nil {
			if s.r, s.err = s.next(); s.err != nil {
				break
			}
		}
		n, err := s.r.Read(p)
		if err == io.EOF {
			s.r, err = nil, nil
		}
		s.err = err
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, s.err
}

func (s *stream) next() (io.Reader, error) {
	kind, r, err := s.ws.NextReader()
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return nil, io.EOF
	case err != nil:
		return nil, err
	case kind != websocket.BinaryMessage:
		return nil, fmt.Errorf("websocket: a text message, want binary") // [MQTT-6.0.0-1]
	}
	return r, nil
}

// Write sends p as one message.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close sends a close frame and closes the connection.
func (s *stream) Close() error {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout)) // it may be gone
	return s.Conn.Close()
}

// connectionState returns the state of the TLS below; the zero value without TLS.
func connectionState(nc net.Conn) tls.ConnectionState {
	if t, ok := nc.(*tls.Conn); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}
