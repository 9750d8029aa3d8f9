package bridge

import (
	"net/url"
	"time"

	"holdfast/broker/wire"
)

// versionMemory is how long an upstream that did not speak MQTT 5 is not asked again: it may be another
// one by then, or have been restarting.
const versionMemory = time.Hour

// version is what to speak first to an upstream.
func (b *Bridge) version(u *url.URL) wire.Version {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until, ok := b.old[u.Host]; ok && time.Now().Before(until) {
		return wire.V311
	}
	return wire.V5
}

// remember notes that an upstream speaks 3.1.1 and not 5.
func (b *Bridge) remember(u *url.URL) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.old[u.Host] = time.Now().Add(versionMemory)
}
