package bridge

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"holdfast/broker/brokertest"
	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

// TestMosquittoWithCertificates: a Mosquitto that lets in only who has a certificate of its authority. When
// that authority changes it refuses the gateway, until the gateway's certificate is replaced: the running
// bridge takes the new one at its next connection, and nothing is lost.
func TestMosquittoWithCertificates(t *testing.T) {
	for name, version := range map[string]wire.Version{"3.1.1": wire.V311, "5": wire.V5} {
		t.Run(name, func(t *testing.T) {
			servers, first, second := brokertest.NewAuthority(t), brokertest.NewAuthority(t), brokertest.NewAuthority(t)
			dir := t.TempDir()
			put := func(from, name string) string {
				t.Helper()
				b, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				// Complete at once, as whatever renews certificates does it.
				to := filepath.Join(dir, name)
				if err := os.WriteFile(to+".new", b, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(to+".new", to); err != nil {
					t.Fatal(err)
				}
				return to
			}
			trusted := put(first.File, "gateways.crt")
			cert, key := servers.Issue("mosquitto")
			m := brokertest.StartMosquitto(t, brokertest.MosquittoOptions{Extra: []string{
				"cafile " + trusted, "certfile " + cert, "keyfile " + key, "require_certificate true",
			}})
			issue := func(a *brokertest.Authority) (cert, key string) {
				t.Helper()
				c, k := a.Issue("gateway")
				return put(c, "gateway.crt"), put(k, "gateway.key")
			}
			cert, key = issue(first)
			d := dial.New(dial.Options{TLS: dial.TLS{CA: servers.File, Cert: cert, Key: key}})
			s := newStore(t)
			b := run(t, s, []string{"mqtts://" + m.Addr()}, func(o *Options) {
				o.Protocol, o.Dial = version, d.Dial
			})
			watch := func(a *brokertest.Authority) *subscriber {
				t.Helper()
				pair, err := tls.LoadX509KeyPair(a.Issue("watch"))
				if err != nil {
					t.Fatal(err)
				}
				config := servers.Client("")
				config.Certificates = []tls.Certificate{pair}
				c, err := tls.Dial("tcp", m.Addr(), config)
				if err != nil {
					t.Fatal(err)
				}
				return subscribeOver(t, c)
			}
			sub := watch(first)
			s.numbers(0, 100)
			next := sub.until(99, 0)

			m.Stop()
			put(second.File, "gateways.crt")
			m.Start()
			sub = watch(second)
			s.numbers(100, 200)
			b.logs.wait("unknown certificate authority")
			if st := b.Stats(); st.Connected || st.Depth != 100 {
				t.Errorf("with a certificate of another authority: %+v", st)
			}
			issue(second)
			if next = sub.until(199, next); next != 200 {
				t.Errorf("%d arrived, want 200", next)
			}
			b.stop()
		})
	}
}
