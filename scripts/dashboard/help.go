package main

import (
	"bytes"
	"io"
	"strings"
)

func reader(s string) io.Reader { return strings.NewReader(s) }

func trim(b []byte) string { return string(bytes.TrimSpace(b)) }
