package brokertest_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// statement is a normative statement of one or both versions: its numbers without "MQTT-", what it asks
// for, in short, and the check that covers it. A "!" begins the reason why there is none.
type statement struct{ v311, v5, what, test string }

const (
	clients   = "!asks something of clients"
	notOurs   = "!for servers that leave the feature out; ours has it"
	transport = "!TestListeners of broker/listen"
)

var statements = []statement{
	// Data representation
	{"1.5.3-1", "1.5.4-1", "ill-formed UTF-8 ends the connection", "bad-utf8"},
	{"1.5.3-2", "1.5.4-2", "U+0000 in a string ends the connection", "bad-utf8"},
	{"1.5.3-3", "1.5.4-3", "U+FEFF is a character like others and is kept", "bom"},
	{"", "1.5.5-1", "a length in its shortest form", "lengths"},
	{"", "1.5.7-1", "both strings of a user property are well-formed", "bad-utf8"},
	// Fixed header, packet identifiers
	{"2.2.2-1 2.2.2-2", "2.1.3-1", "reserved flags have their value, else the connection ends", "flags"},
	{"2.3.1-1", "", "SUBSCRIBE, UNSUBSCRIBE, PUBLISH have an identifier that is not 0", "identifier-0"},
	{"2.3.1-2 2.3.1-3", "2.2.1-3", "unused identifiers in new packets", clients},
	{"2.3.1-4", "2.2.1-4", "the server uses an identifier that is free, for QoS above 0", "identifiers"},
	{"2.3.1-5", "2.2.1-2", "no identifier at QoS 0", "qos0"},
	{"2.3.1-6", "2.2.1-5", "acknowledgements carry the identifier of the PUBLISH", "identifiers"},
	{"2.3.1-7", "2.2.1-6", "SUBACK and UNSUBACK carry the identifier of their request", "suback"},
	{"", "2.2.2-1", "no properties: a length of 0 says so", "empty-properties"},
	// CONNECT
	{"3.1.0-1", "3.1.0-1", "CONNECT comes first", "connect-first"},
	{"3.1.0-2", "3.1.0-2", "a second CONNECT ends the connection", "connect-twice"},
	{"3.1.2-1", "3.1.2-1", "another protocol name is not served", "protocol-name"},
	{"3.1.2-2", "3.1.2-2", "an unknown version is told so, and the connection ends", "protocol-version"},
	{"3.1.2-3", "3.1.2-3", "the reserved connect flag is 0", "connect-flags"},
	{"3.1.2-4", "3.1.2-5", "without clean start the session is resumed", "resume"},
	{"3.1.2-5", "3.1.2-23", "QoS 1 and 2 messages are stored while the client is away", "offline"},
	{"3.1.2-6", "3.1.2-4", "clean start discards an earlier session", "clean-start"},
	{"", "3.1.2-6", "without a session there is a new one", "resume"},
	{"3.1.2-7", "", "retained messages outlive the session that published them", "retained-outlives"},
	{"3.1.2-8", "3.1.2-7 3.1.2-8", "the will is kept, and published when the connection ends", "will"},
	{"3.1.2-9", "3.1.2-9", "will topic and payload are present when the flag says so", "connect-flags"},
	{"3.1.2-10", "3.1.2-10", "a will is published once, and not after DISCONNECT", "will-discarded"},
	{"3.1.2-11 3.1.2-13", "3.1.2-11", "without a will its QoS is 0", "connect-flags"},
	{"3.1.2-12", "", "without a will nothing is published", "will-discarded"},
	{"3.1.2-14", "3.1.2-12", "will QoS is not 3", "connect-flags"},
	{"3.1.2-15", "3.1.2-13", "without a will its RETAIN is 0", "connect-flags"},
	{"3.1.2-16", "3.1.2-14", "a will without RETAIN is not retained", "will-retain"},
	{"3.1.2-17", "3.1.2-15", "a will with RETAIN is", "will-retain"},
	{"3.1.2-18 3.1.2-19", "3.1.2-16 3.1.2-17", "a user name is there exactly if the flag says so", "connect-flags"},
	{"3.1.2-20 3.1.2-21", "3.1.2-18 3.1.2-19", "likewise the password", "connect-flags"},
	{"3.1.2-22", "", "no password without a user name", "password-alone"},
	{"3.1.2-23", "3.1.2-20", "a packet within the keep alive", clients},
	{"", "3.1.2-21", "the server's keep alive is the client's", clients},
	{"3.1.2-24", "3.1.2-22", "one and a half keep alives without a packet end the connection", "keep-alive"},
	{"", "3.1.2-24", "no packet is larger than the client takes", "maximum-packet"},
	{"", "3.1.2-25", "a message that is too large counts as sent", "maximum-packet"},
	{"", "3.1.2-26 3.3.2-11", "no alias above the client's maximum", "aliases-out"},
	{"", "3.1.2-27", "no alias to a client that takes none", "aliases-out"},
	{"", "3.1.2-28", "no response information unless asked for", "response-information"},
	{"", "3.1.2-29", "no reason strings where the client wants none", "problem-information"},
	{"", "3.1.2-30", "nothing but AUTH and DISCONNECT during authentication", clients},
	{"3.1.3-1", "3.1.3-1", "fields of the payload stand in their order", "connect-payload"},
	{"3.1.3-2", "3.1.3-2", "the client identifier names the session", "resume"},
	{"3.1.3-3", "3.1.3-3", "the client identifier is there, and first", "connect-payload"},
	{"3.1.3-4", "3.1.3-4", "the client identifier is UTF-8", "connect-utf8"},
	{"3.1.3-5", "3.1.3-5", "identifiers of 1 to 23 letters and digits are taken", "client-ids"},
	{"3.1.3-6", "3.1.3-6", "an empty identifier is replaced by a unique one", "client-id-empty"},
	{"3.1.3-7", "", "an empty identifier comes with a clean session", clients},
	{"3.1.3-8", "", "an empty identifier without a clean session is refused", "client-id-refused"},
	{"", "3.1.3-7 3.2.2-16", "the assigned identifier is told, and nobody else has it", "client-id-empty"},
	{"3.1.3-9", "3.1.3-8", "a refused identifier is told so, and the connection ends", "client-id-refused"},
	{"", "3.1.3-9", "no will if the client is back before its delay is over", "will-delay"},
	{"", "3.1.3-10", "user properties of a will keep their order", "will-properties"},
	{"3.1.3-10", "3.1.3-11", "the will topic is UTF-8", "connect-utf8"},
	{"3.1.3-11", "3.1.3-12", "the user name is UTF-8", "connect-utf8"},
	{"3.1.4-1", "3.1.4-1", "a CONNECT that is malformed ends the connection", "connect-flags"},
	{"", "3.1.4-2", "a CONNECT that may not be is refused, and the connection ends", "auth-method"},
	{"3.1.4-2", "3.1.4-3", "a second connection of a client ends the first", "takeover"},
	{"3.1.4-3", "3.1.4-4", "clean start is acted upon", "clean-start"},
	{"3.1.4-4", "3.1.4-5 3.2.0-1", "CONNACK with success comes first", "connack-first"},
	{"3.1.4-5", "3.1.4-6", "nothing after a refused CONNECT is acted upon", "refused-rest"},
	// CONNACK
	{"3.2.0-1", "3.2.0-2", "CONNACK comes before all else, once", "connack-first"},
	{"", "3.2.2-1", "acknowledge flags but session present are 0", "connack-first"},
	{"3.2.2-1", "3.2.2-2", "session present is 0 after a clean start", "clean-start"},
	{"3.2.2-2 3.2.2-3", "3.2.2-3", "else it tells whether there was a session", "resume"},
	{"", "3.2.2-4 3.2.2-5", "what a client does when session present surprises it", clients},
	{"3.2.2-4", "3.2.2-6", "session present is 0 in a refusal", "client-id-refused"},
	{"3.2.2-5", "3.2.2-7", "a refusal ends the connection", "client-id-refused"},
	{"3.2.2-6", "3.2.2-8", "no code but those of the specification", "connack-codes"},
	{"", "3.2.2-9 3.2.2-10 3.2.2-12", "servers without QoS 1 or 2", notOurs},
	{"", "3.2.2-11", "no QoS above the server's maximum", clients},
	{"", "3.2.2-13", "servers without retained messages", notOurs},
	{"", "3.2.2-14", "no RETAIN where there is none", clients},
	{"", "3.2.2-15", "no packet larger than the server takes (what ours does with one is covered)", "packet-too-large"},
	{"", "3.2.2-17 3.2.2-18", "no alias above the server's maximum", clients},
	{"", "3.2.2-19 3.2.2-20", "no reason string or user property that makes CONNACK too large", "connack-small"},
	{"", "3.2.2-21", "the client uses the server's keep alive (the server enforces it)", "server-keep-alive"},
	{"", "3.2.2-22", "without a server keep alive the client's holds", "keep-alive"},
	// PUBLISH
	{"3.3.1-1", "3.3.1-1", "DUP in what is sent again", "redelivery"},
	{"3.3.1-2", "3.3.1-2", "no DUP at QoS 0", "dup-qos0"},
	{"3.3.1-3", "3.3.1-3", "DUP of the publisher is not passed on", "dup-not-passed"},
	{"3.3.1-4", "3.3.1-4", "QoS 3 ends the connection", "publish-malformed"},
	{"3.3.1-5 3.3.1-7", "3.3.1-5", "RETAIN replaces what was retained, at any QoS", "retained"},
	{"3.3.1-6", "3.3.1-9", "a new subscription gets retained messages", "retained"},
	{"3.3.1-8", "", "those have RETAIN", "retained"},
	{"3.3.1-9", "3.3.1-12", "what is published later has none", "retained"},
	{"3.3.1-10 3.3.1-11", "3.3.1-6 3.3.1-7", "an empty payload removes, is delivered, and is not retained", "retained-removed"},
	{"3.3.1-12", "3.3.1-8", "without RETAIN what is retained stays", "retained"},
	{"", "3.3.1-10", "retain handling 1: only for a new subscription", "retain-handling"},
	{"", "3.3.1-11", "retain handling 2: not at all", "retain-handling"},
	{"", "3.3.1-13", "retain as published passes RETAIN on", "retain-as-published"},
	{"3.3.2-1", "3.3.2-1", "the topic comes first and is UTF-8", "bad-utf8"},
	{"3.3.2-2", "3.3.2-2", "no wildcard in a topic name", "publish-topics"},
	{"3.3.2-3", "3.3.2-3", "the topic delivered matches the filter", "filters"},
	{"", "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", "payload format, response topic, correlation data, user properties and content type are passed on unchanged, in order", "properties"},
	{"", "3.3.2-5", "an expired message is not delivered", "message-expiry"},
	{"", "3.3.2-6", "the time waited is taken off", "message-expiry"},
	{"", "3.3.2-7", "aliases end with the connection", "aliases-in"},
	{"", "3.3.2-8", "no alias 0", "aliases-in"},
	{"", "3.3.2-9", "no alias above the server's maximum", "aliases-in"},
	{"", "3.3.2-10", "the client takes the aliases that it allowed", clients},
	{"", "3.3.2-12", "the server takes all that it allowed", "aliases-in"},
	{"", "3.3.2-13 3.3.2-14", "the response topic is UTF-8 without wildcards", "response-topic"},
	{"", "3.3.2-19", "the content type is UTF-8", "bad-utf8"},
	{"3.3.4-1", "3.3.4-1", "the answer depends on the QoS", "identifiers"},
	{"3.3.5-1", "3.3.4-2", "overlapping subscriptions: at the highest QoS", "overlap"},
	{"3.3.5-2", "", "a publish that is not allowed is acknowledged or ends the connection", "denied"},
	{"", "3.3.4-3 3.3.4-4", "subscription identifiers, all of them in a single copy", "subscription-ids"},
	{"", "3.3.4-5", "separate copies carry their own identifier", "!ours sends one copy"},
	{"", "3.3.4-6", "no subscription identifier from a client", "publish-malformed"},
	{"", "3.3.4-7 3.3.4-8", "no more than the server's receive maximum (ours ends the connection)", "receive-maximum-in"},
	{"", "3.3.4-9 4.9.0-1 4.9.0-2", "no more than the client's receive maximum", "receive-maximum-out"},
	{"", "3.3.4-10 4.9.0-3", "other packets are not held up by it", "receive-maximum-out"},
	// PUBACK to PUBCOMP
	{"", "3.4.2-1 3.5.2-1", "reason codes of PUBACK and PUBREC", "denied"},
	{"", "3.4.2-2 3.5.2-2 3.6.2-2 3.7.2-2 3.9.2-1 3.11.2-1", "no reason string that makes an answer too large", "reasons-small"},
	{"", "3.4.2-3 3.5.2-3 3.6.2-3 3.7.2-3 3.9.2-2 3.11.2-2 3.14.2-4 3.15.2-3", "user properties that make an answer too large", "!ours sends none in answers"},
	{"3.6.1-1", "3.6.1-1", "flags of PUBREL", "flags"},
	{"", "3.6.2-1 3.7.2-1", "reason codes of PUBREL and PUBCOMP", "unknown-identifiers"},
	// SUBSCRIBE
	{"3.8.1-1", "3.8.1-1", "flags of SUBSCRIBE", "flags"},
	{"3.8.3-1", "3.8.3-1", "filters are UTF-8", "bad-utf8"},
	{"3.8.3-2", "", "servers without wildcards", notOurs},
	{"3.8.3-3", "3.8.3-2", "at least one filter", "subscribe-empty"},
	{"3.8.3-4", "3.8.3-5", "reserved option bits are 0, QoS is not 3", "subscribe-options"},
	{"", "3.8.3-3", "No Local", "no-local"},
	{"", "3.8.3-4", "No Local with a shared subscription ends the connection", "shared-no-local"},
	{"3.8.4-1 3.8.4-2", "3.8.4-1 3.8.4-2", "SUBACK with the identifier of the SUBSCRIBE", "suback"},
	{"3.8.4-3", "3.8.4-3 3.8.4-4", "the same filter replaces the subscription; retained messages come again and none is lost", "resubscribe"},
	{"3.8.4-4", "3.8.4-5", "many filters in one packet are as many packets with one answer", "suback"},
	{"3.8.4-5", "3.8.4-6", "a code for each filter", "suback"},
	{"", "3.8.4-7", "which is the QoS granted or a failure", "suback"},
	{"3.8.4-6", "3.8.4-8", "delivered at the lower QoS", "qos-matrix"},
	{"3.9.3-1", "3.9.3-1", "codes in the order of filters", "suback"},
	{"3.9.3-2", "3.9.3-2", "no code but those of the specification", "suback"},
	// UNSUBSCRIBE
	{"3.10.1-1", "3.10.1-1", "flags of UNSUBSCRIBE", "flags"},
	{"3.10.3-1", "3.10.3-1", "filters are UTF-8", "bad-utf8"},
	{"3.10.3-2", "3.10.3-2", "at least one filter", "subscribe-empty"},
	{"3.10.4-1", "3.10.4-1", "filters are compared character by character", "unsubscribe"},
	{"3.10.4-2", "3.10.4-2", "nothing new is delivered", "unsubscribe"},
	{"3.10.4-3", "3.10.4-3", "what was begun is completed", "unsubscribe-begun"},
	{"3.10.4-4 3.10.4-5", "3.10.4-4 3.10.4-5", "UNSUBACK in any case, with the identifier", "unsubscribe"},
	{"3.10.4-6", "3.10.4-6 3.11.3-1 3.11.3-2", "one answer for many filters, with a code for each in order", "unsubscribe"},
	// PINGREQ, DISCONNECT, AUTH
	{"3.12.4-1", "3.12.4-1", "PINGRESP", "ping"},
	{"", "3.14.0-1", "no DISCONNECT before CONNACK with success", "connect-first"},
	{"3.14.1-1", "3.14.1-1", "flags of DISCONNECT", "flags"},
	{"", "3.14.2-1", "reason codes of DISCONNECT", "disconnect-codes"},
	{"", "3.14.2-2", "no session expiry from the server; none from a client whose session ends with the connection", "disconnect-expiry"},
	{"", "3.14.2-3", "no reason string that makes DISCONNECT too large", "reasons-small"},
	{"3.14.4-1 3.14.4-2", "", "the client closes after DISCONNECT", clients},
	{"", "3.14.4-1 3.14.4-2", "after DISCONNECT nothing is sent, and the connection ends", "disconnect-codes"},
	{"3.14.4-3", "3.14.4-3", "DISCONNECT discards the will", "will-discarded"},
	{"", "3.15.1-1", "flags of AUTH", "flags"},
	{"", "3.15.2-1 3.15.2-2", "what a server says in AUTH", "!ours sends none"},
	// Sessions, QoS
	{"4.1.0-1 4.1.0-2", "4.1.0-1", "the session lasts as long as the connection at least", "resume"},
	{"", "4.2.0-1", "a transport that keeps bytes in order", transport},
	{"4.3.1-1", "4.3.1-1", "QoS 0: no DUP, no answer", "qos0"},
	{"4.3.2-1", "4.3.2-1 4.3.2-2 4.3.2-3", "QoS 1 to a client: free identifier, no DUP, unacknowledged until PUBACK", "redelivery"},
	{"4.3.2-2", "4.3.2-4 4.3.2-5", "QoS 1 from a client: PUBACK, and then the identifier is free", "qos1-again"},
	{"4.3.3-1", "4.3.3-1 4.3.3-2 4.3.3-3 4.3.3-4 4.3.3-5 4.3.3-6", "QoS 2 to a client: PUBLISH until PUBREC, then PUBREL until PUBCOMP", "qos2-out"},
	{"", "4.3.3-7 4.3.3-13", "expiry does not interrupt a QoS 2 exchange", "qos2-expiry"},
	{"4.3.3-2", "4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12", "QoS 2 from a client: a repetition is answered and not published", "qos2-in"},
	{"", "4.3.3-9", "after a refusing PUBREC the identifier is free", "qos2-refused"},
	{"4.4.0-1", "4.4.0-1", "after a reconnection, and only then, what is unacknowledged is sent again under its identifier", "redelivery"},
	{"", "4.4.0-2", "a refusing PUBACK or PUBREC ends a delivery", "refused-delivery"},
	{"4.5.0-1", "4.5.0-1", "a message goes to every session with a matching subscription", "offline"},
	{"4.5.0-2", "4.5.0-2", "the client acknowledges", clients},
	{"4.6.0-1", "4.6.0-1", "sent again in the original order", "redelivery"},
	{"4.6.0-2 4.6.0-3", "4.6.0-2 4.6.0-3", "PUBACK and PUBREC in the order of PUBLISH", "ack-order"},
	{"4.6.0-4", "4.6.0-4", "PUBREL in the order of PUBREC", "pubrel-order"},
	{"4.6.0-5 4.6.0-6", "4.6.0-5 4.6.0-6", "every topic is ordered, for a publisher and a QoS", "order"},
	// Topics, filters
	{"4.7.1-1", "4.7.0-1", "wildcards stand in filters alone", "publish-topics"},
	{"4.7.1-2", "4.7.1-1", "# is the last level, alone", "filters"},
	{"4.7.1-3", "4.7.1-2", "+ is a level, alone", "filters"},
	{"4.7.2-1", "4.7.2-1", "a wildcard in front does not match $", "dollar"},
	{"4.7.3-1", "4.7.3-1", "at least one character", "publish-topics"},
	{"4.7.3-2", "4.7.3-2", "no U+0000", "bad-utf8"},
	{"4.7.3-3", "4.7.3-3", "at most 65,535 bytes", "long-topic"},
	{"4.7.3-4", "4.7.3-4", "topics are not normalised", "not-normalised"},
	// Shared subscriptions
	{"", "4.8.2-1 4.8.2-2", "the form of $share/NAME/FILTER", "shared-form"},
	{"", "4.8.2-3", "QoS granted to the member", "shared"},
	{"", "4.8.2-4 4.8.2-5", "a QoS 2 delivery stays with its member, and ends with its session", "shared-qos2"},
	{"", "4.8.2-6", "a message that a member refuses goes to no other", "shared-refused"},
	// Authentication, errors
	{"", "4.12.0-1", "an unknown authentication method is refused", "auth-method"},
	{"", "4.12.0-2 4.12.0-3 4.12.0-4 4.12.0-5 4.12.1-1 4.12.1-2", "authentication exchanges", "!ours knows no method"},
	{"", "4.12.0-6 4.12.0-7", "no AUTH without a method", "auth-packet"},
	{"4.8.0-1", "4.13.1-1", "a violation of the protocol ends the connection", "publish-malformed"},
	{"", "4.13.2-1", "an error code in CONNACK or DISCONNECT is followed by the end", "client-id-refused"},
	{"4.8.0-2", "", "a passing error ends the connection", "journal-refuses"},
	// WebSocket
	{"6.0.0-1 6.0.0-2", "6.0.0-1 6.0.0-2", "binary frames, packets need not be aligned to them", transport},
	{"6.0.0-3", "6.0.0-3", "the client asks for mqtt", clients},
	{"6.0.0-4", "6.0.0-4", "the server chooses mqtt", transport},
}

// The last number of each section, as the specifications list them in their appendices.
var sections311 = "1.5.3-3 2.2.2-2 2.3.1-7 3.1.0-2 3.1.2-24 3.1.3-11 3.1.4-5 3.2.0-1 3.2.2-6 3.3.1-12 3.3.2-3 3.3.4-1 3.3.5-2 " +
	"3.6.1-1 3.8.1-1 3.8.3-4 3.8.4-6 3.9.3-2 3.10.1-1 3.10.3-2 3.10.4-6 3.12.4-1 3.14.1-1 3.14.4-3 4.1.0-2 4.3.1-1 4.3.2-2 " +
	"4.3.3-2 4.4.0-1 4.5.0-2 4.6.0-6 4.7.1-3 4.7.2-1 4.7.3-4 4.8.0-2 6.0.0-4"

var sections5 = "1.5.4-3 1.5.5-1 1.5.7-1 2.1.3-1 2.2.1-6 2.2.2-1 3.1.0-2 3.1.2-30 3.1.3-12 3.1.4-6 3.2.0-2 3.2.2-22 3.3.1-13 " +
	"3.3.2-20 3.3.4-10 3.4.2-3 3.5.2-3 3.6.1-1 3.6.2-3 3.7.2-3 3.8.1-1 3.8.3-5 3.8.4-8 3.9.2-2 3.9.3-2 3.10.1-1 3.10.3-2 " +
	"3.10.4-6 3.11.2-2 3.11.3-2 3.12.4-1 3.14.0-1 3.14.1-1 3.14.2-4 3.14.4-3 3.15.1-1 3.15.2-3 4.1.0-1 4.2.0-1 4.3.1-1 4.3.2-5 " +
	"4.3.3-13 4.4.0-2 4.5.0-2 4.6.0-6 4.7.0-1 4.7.1-2 4.7.2-1 4.7.3-4 4.8.2-6 4.9.0-3 4.12.0-7 4.12.1-2 4.13.1-1 4.13.2-1 6.0.0-4"

// numbers not given to any statement: 2.2.1-1 of 5 does not exist.
var absent = map[string]bool{"5 2.2.1-1": true}

// TestEveryStatement: each number of the specifications stands in the table, once.
func TestEveryStatement(t *testing.T) {
	for _, version := range []struct {
		name, sections string
		of             func(statement) string
	}{
		{"3.1.1", sections311, func(s statement) string { return s.v311 }},
		{"5", sections5, func(s statement) string { return s.v5 }},
	} {
		count := map[string]int{}
		for _, s := range statements {
			for _, n := range strings.Fields(version.of(s)) {
				count[n]++
			}
			if s.what == "" || s.test == "" || s.test == "!" {
				t.Errorf("%+v: neither a check nor a reason", s)
			}
		}
		for _, last := range strings.Fields(version.sections) {
			section, end, _ := strings.Cut(last, "-")
			n, err := strconv.Atoi(end)
			if err != nil {
				t.Fatal(err)
			}
			for i := 1; i <= n; i++ {
				number := fmt.Sprintf("%s-%d", section, i)
				if count[number] == 0 && !absent[version.name+" "+number] {
					t.Errorf("%s: [MQTT-%s] is not in the table", version.name, number)
				}
				delete(count, number)
			}
		}
		for number := range count {
			t.Errorf("%s: [MQTT-%s] does not exist", version.name, number)
		}
	}
}

var update = flag.Bool("update", false, "write the table of statements into broker/README.md")

const (
	readme     = "../README.md"
	tableBegin = "<!-- statements -->\n"
	tableEnd   = "<!-- end of statements -->\n"
)

// TestTable: broker/README.md shows the table as it is.
func TestTable(t *testing.T) {
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	front, rest, ok := strings.Cut(string(b), tableBegin)
	_, back, also := strings.Cut(rest, tableEnd)
	if !ok || !also {
		t.Fatalf("%s: no %q and %q", readme, tableBegin, tableEnd)
	}
	want := front + tableBegin + table() + tableEnd + back
	if want == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: go generate ./broker/brokertest", readme)
	}
	if err := os.WriteFile(readme, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| 3.1.1 | 5 | in short | covered by |\n|---|---|---|---|\n")
	numbers := func(s string) string {
		if s == "" {
			return ""
		}
		return "[MQTT-" + strings.Join(strings.Fields(s), "], [MQTT-") + "]"
	}
	for _, s := range statements {
		by := "`" + s.test + "`"
		if why, not := strings.CutPrefix(s.test, "!"); not {
			by = "— " + why
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", numbers(s.v311), numbers(s.v5), s.what, by)
	}
	return b.String()
}
