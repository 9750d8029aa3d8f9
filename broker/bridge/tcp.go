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

// tune makes the kernel refuse more than it can send soon: otherwise its buffer holds seconds of a slow link,
// and how much of that has left is not known. It also makes the kernel resend lost data soon, however often it is
// lost: by default TCP waits twice as long each time, up to two minutes. A kernel that does not know one of these
// options ignores it.
func (l *link) tune() {
	if l.tcp = tcpOf(l.nc); l.tcp == nil {
		return
	}
	_ = l.tcp.Control(func(fd uintptr) {
		for option, value := range map[int]int{
			unix.TCP_NOTSENT_LOWAT: unsent, unix.TCP_THIN_LINEAR_TIMEOUTS: 1, tcpRTOMax: int(sendAgain.Milliseconds()),
		} {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
		}
	})
}

// lossy reports whether TCP has resent a tenth or more of its packets since the last call. A link that is
// merely slow loses less.
func (l *link) lossy() (yes bool) {
	if l.tcp == nil {
		return false
	}
	_ = l.tcp.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		yes = 10*(info.Total_retrans-l.resegs) >= info.Data_segs_out-l.segs && info.Total_retrans > l.resegs
		l.segs, l.resegs = info.Data_segs_out, info.Total_retrans
	})
	return yes
}
