package bridge

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sendAgain = 3 * time.Second // what a link has lost: longer than a round trip takes on any
	tcpRTOMax = 44              // TCP_RTO_MAX_MS of Linux 6.15
)

// tcpOf is the TCP connection below another one, nil if there is none.
func tcpOf(nc net.Conn) syscall.RawConn {
	for {
		switch c := nc.(type) {
		case *tls.Conn:
			nc = c.NetConn()
			continue
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
			continue
		case syscall.Conn:
			if raw, err := c.SyscallConn(); err == nil {
				return raw
			}
		}
		return nil
	}
}

// tcp is the TCP connection below a link. It is for the goroutine that uses the link.
type tcp struct {
	raw    syscall.RawConn // nil if it is none
	segs   uint32          // that TCP had sent, when it was asked last
	resegs uint32          // of them, again
}

// tune makes the kernel refuse more than it can send soon: otherwise its buffer holds seconds of a slow link,
// and how much of that has left is not known. It also makes the kernel resend lost data soon, however often it is
// lost: by default TCP waits twice as long each time, up to two minutes. A kernel that does not know one of these
// options ignores it.
func (t *tcp) tune(nc net.Conn) {
	if t.raw = tcpOf(nc); t.raw == nil {
		return
	}
	_ = t.raw.Control(func(fd uintptr) {
		for option, value := range map[int]int{
			unix.TCP_NOTSENT_LOWAT: unsent, unix.TCP_THIN_LINEAR_TIMEOUTS: 1, tcpRTOMax: int(sendAgain.Milliseconds()),
		} {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
		}
	})
}

// lossy reports whether TCP has resent a tenth or more of its packets since the last call. A link that is
// merely slow loses less.
func (t *tcp) lossy() (yes bool) {
	if t.raw == nil {
		return false
	}
	_ = t.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		yes = 10*(info.Total_retrans-t.resegs) >= info.Data_segs_out-t.segs && info.Total_retrans > t.resegs
		t.segs, t.resegs = info.Data_segs_out, info.Total_retrans
	})
	return yes
}
