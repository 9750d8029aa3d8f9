package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestPropertyPlaces holds the decoder against table 2-4 of MQTT 5.0: each identifier in each packet, with a value
// that is right where it belongs. One that does not belong makes the packet malformed (section 2.2.2.2).
func TestPropertyPlaces(t *testing.T) {
	type row struct {
		value  string // in hex
		places []string
	}
	all := []string{"CONNECT", "CONNACK", "PUBLISH", "will", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "DISCONNECT", "AUTH"}
	text, publish := "0001 61", []string{"PUBLISH", "will"}
	table := map[byte]row{
		0x01: {"01", publish}, 0x02: {"00000001", publish}, 0x03: {text, publish}, 0x08: {text, publish}, 0x09: {text, publish},
		0x0b: {"01", []string{"PUBLISH", "SUBSCRIBE"}},
		0x11: {"00000001", []string{"CONNECT", "CONNACK", "DISCONNECT"}},
		0x12: {text, []string{"CONNACK"}}, 0x13: {"0001", []string{"CONNACK"}},
		0x15: {text, []string{"CONNECT", "CONNACK", "AUTH"}},
		0x16: {text + "15" + text, []string{"CONNECT", "CONNACK", "AUTH"}}, // with the method that it needs
		0x17: {"01", []string{"CONNECT"}}, 0x18: {"00000001", []string{"will"}}, 0x19: {"01", []string{"CONNECT"}},
		0x1a: {text, []string{"CONNACK"}}, 0x1c: {text, []string{"CONNACK", "DISCONNECT"}},
		0x1f: {text, []string{"CONNACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"}},
		0x21: {"0001", []string{"CONNECT", "CONNACK"}}, 0x22: {"0001", []string{"CONNECT", "CONNACK"}},
		0x23: {"0001", []string{"PUBLISH"}}, 0x24: {"01", []string{"CONNACK"}}, 0x25: {"01", []string{"CONNACK"}},
		0x26: {text + text, all}, 0x27: {"00000001", []string{"CONNECT", "CONNACK"}},
		0x28: {"01", []string{"CONNACK"}}, 0x29: {"01", []string{"CONNACK"}}, 0x2a: {"01", []string{"CONNACK"}},
	}
	// What stands before and after the property list.
	frames := map[string]struct{ first, before, after string }{
		"CONNECT": {"10", "0004 4d515454 05 02 003c", "0001 63"}, "CONNACK": {"20", "0000", ""},
		"will":    {"10", "0004 4d515454 05 06 003c 00 0001 63", "0001 77 0001 70"},
		"PUBLISH": {"30", "0001 74", "78"}, "PUBACK": {"40", "0001 00", ""}, "PUBREC": {"50", "0001 00", ""},
		"PUBREL": {"62", "0001 00", ""}, "PUBCOMP": {"70", "0001 00", ""}, "SUBSCRIBE": {"82", "0001", "0001 61 00"},
		"SUBACK": {"90", "0001", "00"}, "UNSUBSCRIBE": {"a2", "0001", "0001 61"}, "UNSUBACK": {"b0", "0001", "00"},
		"DISCONNECT": {"e0", "00", ""}, "AUTH": {"f0", "00", ""},
	}
	for _, place := range all {
		for id := range byte(0x80) {
			r, exists := table[id]
			property := append([]byte{id}, unhex(t, r.value)...)
			if !exists {
				property = []byte{id, 1}
			}
			f := frames[place]
			body := append(unhex(t, f.before), byte(len(property)))
			body = append(append(body, property...), unhex(t, f.after)...)
			packet := binary.AppendUvarint(unhex(t, f.first), uint64(len(body)))
			_, err := read(V5, append(packet, body...))
			var wrong *Error
			switch name := fmt.Sprintf("%s with property 0x%02x", place, id); {
			case exists && slices.Contains(r.places, place):
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case !errors.As(err, &wrong) || wrong.Code != MalformedPacket:
				t.Errorf("%s: got %v, want a malformed packet", name, err)
			}
		}
	}
}
