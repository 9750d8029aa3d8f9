package bridge

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	connectTimeout = 10 * time.Second
	pingTimeout    = 10 * time.Second
	// handOver bounds Client.Publish, which waits for the goroutine that writes, and waits in vain
	// once the connection has ended. Slow writing is conn's business.
	handOver = time.Second
	// disconnectTimeout is how many milliseconds a DISCONNECT packet may take to be written.
	disconnectTimeout = 250
)

// dial connects to an upstream with a new client, so that no packet identifier, token or store of an
// earlier connection lives on. lost gets the reason when the connection ends by itself.
func (b *Bridge) dial(ctx context.Context, upstream *url.URL) (client mqtt.Client, c *conn, lost <-chan error, err error) {
	reason := make(chan error, 1)
	stop := func() bool { return true }
	opts := mqtt.NewClientOptions().AddBroker(upstream.String()).
		SetProtocolVersion(4).
		SetClientID(b.opts.ClientID).SetUsername(b.opts.Username).SetPassword(b.opts.Password).
		SetCleanSession(true).SetStore(noStore{}).
		SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(handOver).
		SetKeepAlive(b.opts.KeepAlive).SetPingTimeout(pingTimeout).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { reason <- err }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
			d := net.Dialer{Timeout: connectTimeout}
			nc, err := d.DialContext(ctx, "tcp", u.Host)
			if err != nil {
				return nil, err
			}
			c = newConn(nc, b.opts.AckTimeout)
			stop = context.AfterFunc(ctx, func() { c.Close() }) // ends a handshake that hangs
			return c, nil
		})
	client = mqtt.NewClient(opts)
	token := client.Connect()
	token.Wait()
	stop()
	if err := token.Error(); err != nil {
		return nil, nil, nil, err
	}
	if c.closed.Load() { // paho takes a return code that it does not know for a success
		client.Disconnect(disconnectTimeout)
		return nil, nil, nil, errors.New("connection ended at once")
	}
	return client, c, reason, nil
}

const (
	readBuffer = 512 // bytes: PUBACKs, which paho reads byte by byte
	writeChunk = 16 << 10
)

// conn gives a write its deadline by progress instead of by packet, so that a slow link can carry a
// long message, and lets nothing follow a packet that was cut short, which the upstream would take
// for the rest of it.
type conn struct {
	net.Conn
	r       *bufio.Reader
	timeout time.Duration // for each chunk
	closed  atomic.Bool

	mu  sync.Mutex // packets and pings come from two goroutines
	err error      // of the first write that failed
}

func newConn(c net.Conn, timeout time.Duration) *conn {
	return &conn{Conn: c, r: bufio.NewReaderSize(c, readBuffer), timeout: timeout}
}

func (c *conn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && n < len(p) {
		var m int
		if c.err = c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); c.err == nil {
			m, c.err = c.Conn.Write(p[n:min(n+writeChunk, len(p))])
		}
		n += m
	}
	return n, c.err
}

func (c *conn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// SetWriteDeadline does nothing: Write sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// noStore keeps nothing: the journal is the only store.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
