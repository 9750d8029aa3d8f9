package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"time"
)

func reader(s string) io.Reader { return strings.NewReader(s) }

func trim(b []byte) string { return string(bytes.TrimSpace(b)) }

// freeAddress is one that nothing listens on at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// waitFor waits until something listens.
func waitFor(address string) (err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var nc net.Conn
		if nc, err = net.Dial("tcp", address); err == nil {
			return nc.Close()
		}
	}
	return err
}
