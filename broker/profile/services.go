package profile

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// basicIngest is the front of topics that go to a rule and not through the message broker of AWS.
const basicIngest = "$aws/rules/"

var profiles = []Profile{
	// AWS General Reference, "AWS IoT Core endpoints and quotas", section "AWS IoT Core message broker and
	// protocol limits and quotas": client identifier 128 bytes, keep alive 30 to 1,200 s, 100 unacknowledged
	// messages each way, payload 128 KB, topic 256 bytes with at most 7 slashes, the front "$aws/rules/NAME/"
	// not counted. AWS IoT Core Developer Guide, "Device communication protocols", section "Protocols, port
	// mappings, and authentication": ports 8883 and 443, where ALPN has to say x-amzn-mqtt-ca; WebSocket
	// requests are signed. Section "MQTT": QoS 0 and 1, retained messages. "Retained message policy examples": a
	// will needs a condition of its own in the policy, LastWill among iot:ConnectAttributes.
	{
		Name: "aws-iot-core", schemes: []string{"mqtts"}, alpn443: "x-amzn-mqtt-ca",
		credentials: []credential{certificate, password, token}, clientID: 128, fixed: true, window: 100,
		keepAlive: 1200 * time.Second, leastAlive: 30 * time.Second, payload: 128 << 10, topic: 256, levels: 8, asksForWill: true,
		check: checkAWS,
		fill: func(s *Settings) {
			// A custom authorizer has another protocol on port 443.
			if !s.Certificate && len(s.ALPN) == 0 && s.anyPort("443") {
				s.ALPN = []string{"mqtt"}
			}
		},
	},
	// Azure IoT Hub documentation, "Communicate with an IoT hub using the MQTT protocol", section "Using the
	// MQTT protocol directly (as a device)": client identifier, user name and SAS token; section "Default
	// keep-alive timeout": 1,177 s; section "Sending device-to-cloud messages": topic, property bag, no
	// QoS 2, no RETAIN, a will under the same topics. "Compare MQTT support in IoT Hub and Event Grid": 256 KB. "IoT Hub MQTT 5 support
	// (deprecated)", section "Level of support and limitations": 16 messages in flight, which is a start here.
	{
		Name: "azure-iot-hub", schemes: []string{"mqtts", "wss"},
		credentials: []credential{certificate, token, sas}, clientID: 128, fixed: true, firstWindow: 16,
		keepAlive: 1177 * time.Second, payload: 256 << 10, noRetain: true, only311: "MQTT 5 was a preview, and is withdrawn",
		fill: fillIoTHub, check: checkIoTHub, remap: deviceToCloud,
	},
	// Azure Event Grid documentation, "MQTT features supported by Azure Event Grid's MQTT broker feature",
	// sections "Connection flow" and "MQTTv5 current limitations": TLS, QoS 1, packet 512 KiB, keep alive
	// 1,160 s. "Quotas and limits", section "MQTT limits in Event Grid namespace": topic 256 bytes, 15 levels.
	// "Support for MQTT Retain", section "Storage limits": 64 KB. Tokens are logged in with by the
	// authentication packets of MQTT 5 ("Microsoft Entra JWT authentication"), which a bridge does not do.
	{
		Name: "azure-event-grid", schemes: []string{"mqtts", "wss"}, credentials: []credential{certificate},
		clientID: 128, fixed: true, keepAlive: 1160 * time.Second, payload: 512 << 10, retained: 64 << 10, topic: 256, levels: 15,
		fill: func(s *Settings) {
			if s.Username == "" {
				s.Username = s.ClientID // the client's authentication name
			}
		},
	},
	// EMQX Platform documentation, "Quotas and Limits": message 1 MB, no anonymous access in the cloud. EMQX
	// configuration, "MQTT": max_topic_levels 128, max_packet_size 1 MB.
	{
		Name: "emqx", schemes: []string{"mqtts", "wss", "mqtt", "ws"}, credentials: anyone,
		payload: 1 << 20, levels: 128, check: cloudOnly("emqxsl.com", "emqxsl.cn", "emqxcloud.com", "emqx.cloud"),
	},
	// HiveMQ Cloud documentation, "HiveMQ Cloud plans" and "Connect to your cluster": TLS with SNI, user name
	// and password, messages of up to 5 MB.
	{
		Name: "hivemq", schemes: []string{"mqtts", "wss", "mqtt", "ws"}, credentials: anyone,
		payload: 5 << 20, check: cloudOnly("hivemq.cloud"),
	},
	// mosquitto.conf(5) sets no limit by default; a topic has at most 200 levels (TOPIC_HIERARCHY_LIMIT in
	// mosquitto.h), beyond which the connection is ended.
	{Name: "mosquitto", schemes: []string{"mqtt", "mqtts", "ws", "wss"}, credentials: anyone, levels: 200},
}

var anyone = []credential{certificate, password, token, nobody}

func (s Settings) anyPort(port string) bool {
	for _, u := range s.Upstreams {
		if u.Port() == port {
			return true
		}
	}
	return false
}

func checkAWS(s Settings) (found []Problem) {
	for i, u := range s.Upstreams {
		if port := u.Port(); port != "443" && port != "8883" {
			found = append(found, Problem{fmt.Sprintf("upstream[%d]", i), "aws-iot-core listens on 8883 and 443"})
		}
	}
	if s.anyPort("443") && s.Certificate && !contains(s.ALPN, "x-amzn-mqtt-ca") {
		found = append(found, Problem{"tls.alpn", "aws-iot-core knows MQTT on port 443 by x-amzn-mqtt-ca: leave alpn away"})
	}
	for i, r := range s.Out {
		if strings.HasPrefix(r.Prefix, "$") && !strings.HasPrefix(r.Prefix, "$aws/") {
			found = append(found, Problem{fmt.Sprintf("out[%d]", i), "aws-iot-core keeps topics with $ in front for itself, but for $aws/"})
		}
	}
	return found
}

// cloudOnly says that a vendor's cloud wants TLS and a password, where other installations may not.
func cloudOnly(domains ...string) func(Settings) []Problem {
	return func(s Settings) (found []Problem) {
		for i, u := range s.Upstreams {
			for _, domain := range domains {
				if !strings.HasSuffix(strings.ToLower(u.Hostname()), "."+domain) {
					continue
				}
				if u.Scheme == "mqtt" || u.Scheme == "ws" {
					found = append(found, Problem{fmt.Sprintf("upstream[%d]", i), domain + " takes TLS only: want mqtts or wss"})
				}
				if s.credential() == nobody {
					found = append(found, Problem{"profile", domain + " lets nobody in without a name: want username and password, token_file, or tls.cert and tls.key"})
				}
			}
		}
		return found
	}
}

// apiVersion belongs into the user name.
const apiVersion = "2021-04-12"

// iotHubPath is where WebSocket is served.
const iotHubPath = "/$iothub/websocket"

func fillIoTHub(s *Settings) {
	if s.Username == "" && s.ClientID != "" {
		s.Username = s.host() + "/" + s.ClientID + "/?api-version=" + apiVersion
	}
	for _, u := range s.Upstreams {
		if u.Scheme == "wss" && u.Path == "" {
			u.Path = iotHubPath
		}
	}
}

func checkIoTHub(s Settings) (found []Problem) {
	for i, u := range s.Upstreams {
		if strings.ToLower(u.Hostname()) != s.host() {
			found = append(found, Problem{fmt.Sprintf("upstream[%d]", i), "a device of azure-iot-hub belongs to one hub: want the same host in every address"})
		}
		if u.Scheme == "wss" && u.Path != iotHubPath {
			found = append(found, Problem{fmt.Sprintf("upstream[%d]", i), "azure-iot-hub serves WebSocket at " + iotHubPath})
		}
	}
	if !strings.HasPrefix(s.Username, s.host()+"/"+s.ClientID+"/?api-version=") {
		found = append(found, Problem{"username", "azure-iot-hub wants HOST/CLIENT_ID/?api-version=" + apiVersion + ": leave username away"})
	}
	if strings.ContainsAny(s.ClientID, "/+# ") {
		found = append(found, Problem{"client_id", "azure-iot-hub wants the device's name there, as it is registered"})
	}
	front := "devices/" + s.ClientID + "/messages/devicebound/"
	for i, filter := range s.In {
		if !strings.HasPrefix(filter, front) {
			found = append(found, Problem{fmt.Sprintf("in[%d]", i), "azure-iot-hub sends to a device below " + front + "# only"})
		}
	}
	return found
}

// deviceToCloud puts a topic into the property bag of the one topic that a device may publish to, where
// routes and consumers find it as the property "topic".
func deviceToCloud(clientID, topic string) string {
	return "devices/" + clientID + "/messages/events/topic=" + strings.ReplaceAll(url.QueryEscape(topic), "+", "%20")
}
