package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Format writes a message that has come at a time.
type Format func(w io.Writer, m *Message, at time.Time) error

// FormatHelp lists what a template may hold, for the help text.
const FormatHelp = `  %t topic              %p payload             %x payload in hex
  %q QoS                %r retain, 0 or 1      %l payload length
  %m packet identifier  %I time, ISO 8601      %U time, seconds since 1970
  %j all of it as JSON  %C content type        %R response topic
  %D correlation data   %E message expiry      %P user properties, name:value
  %S subscription identifiers                  %% a %
  \n \t \r \0 \\ \e as in C; a newline is added at the end unless there is \c`

// ParseFormat takes "text", "json", "hex", or a template, which has a % in it.
func ParseFormat(s string) (Format, error) {
	switch {
	case s == "text":
		return ParseFormat("%p")
	case s == "hex":
		return ParseFormat("%x")
	case s == "json":
		return ParseFormat("%j")
	case !strings.Contains(s, "%"):
		return nil, fmt.Errorf("format %q: want text, json, hex, or a template with a %% in it", s)
	}
	return parseTemplate(s)
}

// part writes one part of a template.
type part func(b *bytes.Buffer, m *Message, at time.Time)

var parts = map[byte]part{
	't': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(m.Topic) },
	'p': func(b *bytes.Buffer, m *Message, _ time.Time) { b.Write(m.Payload) },
	'x': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(hex.EncodeToString(m.Payload)) },
	'q': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteByte('0' + m.QoS) },
	'r': func(b *bytes.Buffer, m *Message, _ time.Time) {
		if m.Retain {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	},
	'l': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(strconv.Itoa(len(m.Payload))) },
	'm': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(strconv.Itoa(int(m.ID))) },
	'I': func(b *bytes.Buffer, _ *Message, at time.Time) { b.WriteString(at.Format(isoTime)) },
	'U': func(b *bytes.Buffer, _ *Message, at time.Time) { fmt.Fprintf(b, "%d.%09d", at.Unix(), at.Nanosecond()) },
	'C': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(m.ContentType) },
	'R': func(b *bytes.Buffer, m *Message, _ time.Time) { b.WriteString(m.ResponseTopic) },
	'D': func(b *bytes.Buffer, m *Message, _ time.Time) { b.Write(m.Correlation) },
	'E': func(b *bytes.Buffer, m *Message, _ time.Time) {
		if m.Expires {
			b.WriteString(strconv.FormatUint(uint64(m.Expiry), 10))
		}
	},
	'P': func(b *bytes.Buffer, m *Message, _ time.Time) {
		for i, u := range m.User {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(u.Name + ":" + u.Value)
		}
	},
	'S': func(b *bytes.Buffer, m *Message, _ time.Time) {
		for i, id := range m.SubscriptionIDs {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strconv.Itoa(id))
		}
	},
	'j': func(b *bytes.Buffer, m *Message, at time.Time) { b.Write(asJSON(m, at)) },
}

// isoTime has milliseconds and the zone.
const isoTime = "2006-01-02T15:04:05.000Z07:00"

var escapes = map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '0': 0, '\\': '\\', 'e': 0x1b}

func parseTemplate(s string) (Format, error) {
	var made []part
	var text []byte
	flush := func() {
		if t := text; len(t) > 0 {
			made = append(made, func(b *bytes.Buffer, _ *Message, _ time.Time) { b.Write(t) })
			text = nil
		}
	}
	newline := true
	for i := 0; i < len(s); i++ {
		if s[i] != '%' && s[i] != '\\' {
			text = append(text, s[i])
			continue
		}
		i++
		switch {
		case i == len(s):
			return nil, fmt.Errorf("format: nothing after the last %c", s[i-1])
		case s[i-1] == '\\' && s[i] == 'c':
			newline = false
		case s[i-1] == '\\':
			c, known := escapes[s[i]]
			if !known {
				return nil, fmt.Errorf("format: unknown escape \\%c", s[i])
			}
			text = append(text, c)
		case s[i] == '%':
			text = append(text, '%')
		default:
			p := parts[s[i]]
			if p == nil {
				return nil, fmt.Errorf("format: unknown %%%c; %%%% stands for %%", s[i])
			}
			flush()
			made = append(made, p)
		}
	}
	if newline {
		text = append(text, '\n')
	}
	flush()
	return func(w io.Writer, m *Message, at time.Time) error {
		var b bytes.Buffer
		for _, p := range made {
			p(&b, m, at)
		}
		_, err := w.Write(b.Bytes()) // one write: lines of several programs do not mix
		return err
	}, nil
}

// asJSON is one line. The payload stands in it as JSON if it is that, as text if it is UTF-8, and else as
// payload_base64.
func asJSON(m *Message, at time.Time) []byte {
	type user map[string]string
	v := struct {
		Time    string          `json:"time"`
		Topic   string          `json:"topic"`
		QoS     byte            `json:"qos"`
		Retain  bool            `json:"retain"`
		ID      uint16          `json:"mid,omitempty"`
		Length  int             `json:"length"`
		Payload json.RawMessage `json:"payload,omitempty"`
		Bytes   []byte          `json:"payload_base64,omitempty"`

		ContentType   string  `json:"content_type,omitempty"`
		ResponseTopic string  `json:"response_topic,omitempty"`
		Correlation   []byte  `json:"correlation_base64,omitempty"`
		Expiry        *uint32 `json:"expiry,omitempty"`
		User          []user  `json:"user_properties,omitempty"` // a list: names may come twice
		IDs           []int   `json:"subscription_ids,omitempty"`
	}{
		Time: at.Format(isoTime), Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, ID: m.ID, Length: len(m.Payload),
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, Correlation: m.Correlation,
		IDs: m.SubscriptionIDs,
	}
	if m.Expires {
		v.Expiry = &m.Expiry
	}
	for _, u := range m.User {
		v.User = append(v.User, user{u.Name: u.Value})
	}
	switch {
	case json.Valid(m.Payload) && utf8.Valid(m.Payload):
		v.Payload = m.Payload
	case utf8.Valid(m.Payload):
		v.Payload = marshal(string(m.Payload))
	default:
		v.Bytes = m.Payload
	}
	return marshal(v)
}

func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("client: %v", err)) // text, numbers and valid JSON always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
