package wire

import "encoding/binary"

// Forwarded holds the decoded properties that travel with a message from publisher to subscriber.
type Forwarded struct {
	UTF8            bool // Payload Format Indicator 1
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty
}

// ParseForward decodes Publish.Forward.
func ParseForward(b []byte) (f Forwarded, err error) {
	d := decoder{b: append(appendVarint(nil, uint32(len(b))), b...)}
	d.properties(onType(PUBLISH), func(p property) {
		switch p.id {
		case propPayloadFormat:
			f.UTF8 = p.number == 1
		case propContentType:
			f.ContentType = string(p.text)
		case propResponseTopic:
			f.ResponseTopic = string(p.text)
		case propCorrelationData:
			f.CorrelationData = p.text
		case propUser:
			f.User = append(f.User, UserProperty{string(p.text), string(p.value)})
		default:
			d.fail(protocolError("property 0x%02x is not forwarded", p.id))
		}
	})
	return f, d.err
}

// Append appends the properties in the encoding of Publish.Forward.
func (f *Forwarded) Append(b []byte) []byte {
	if f.UTF8 {
		b = append(b, propPayloadFormat, 1)
	}
	if f.ContentType != "" {
		b = appendString(append(b, propContentType), f.ContentType)
	}
	if f.ResponseTopic != "" {
		b = appendString(append(b, propResponseTopic), f.ResponseTopic)
	}
	if f.CorrelationData != nil {
		b = append(b, propCorrelationData)
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.CorrelationData)))
		b = append(b, f.CorrelationData...)
	}
	for _, u := range f.User {
		b = appendString(appendString(append(b, propUser), u.Name), u.Value)
	}
	return b
}

// AppendUser appends a user property to Publish.Forward.
func AppendUser(b []byte, name string, value []byte) []byte {
	return appendString(appendString(append(b, propUser), name), value)
}
