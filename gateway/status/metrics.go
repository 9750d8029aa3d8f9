package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// kinds of metrics.
const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// family is one metric: its name and meaning, and how its samples are found in a Status. Samples that do not
// exist, such as the time of a message where none waits, are left out.
type family struct {
	name    string
	kind    prometheus.ValueType
	help    string
	labels  []string
	samples func(s *Status, add func(value float64, labels ...string))
}

// one is a family with a single sample and no labels.
func one(name string, kind prometheus.ValueType, help string, value func(s *Status) float64) family {
	return family{name, kind, help, nil, func(s *Status, add func(float64, ...string)) { add(value(s)) }}
}

// perBridge, perSensor and perOutput are families with a sample for each.
func perBridge(name string, kind prometheus.ValueType, help string, value func(b *Bridge) float64) family {
	return family{name, kind, help, []string{"bridge"}, func(s *Status, add func(float64, ...string)) {
		for i := range s.Bridges {
			add(value(&s.Bridges[i]), s.Bridges[i].Name)
		}
	}}
}

func perSensor(name string, kind prometheus.ValueType, help string, value func(x *Sensor) float64) family {
	return family{name, kind, help, []string{"sensor"}, func(s *Status, add func(float64, ...string)) {
		for i := range s.Sensors {
			add(value(&s.Sensors[i]), s.Sensors[i].Name)
		}
	}}
}

// families are the gateway's metrics.
func families() []family {
	return []family{
		{"holdfast_info", gauge, "1, with the device and the version of the program.", []string{"device", "version"},
			func(s *Status, add func(float64, ...string)) { add(1, s.Device, s.Version) }},
		one("holdfast_problems", gauge, "How many things are wrong at the moment.", func(s *Status) float64 { return float64(len(s.Problems)) }),

		perSensor("holdfast_sensor_up", gauge, "Whether the last reading succeeded.", func(x *Sensor) float64 { return truth(x.State == "ok") }),
		perSensor("holdfast_sensor_readings_total", counter, "Readings that succeeded.", func(x *Sensor) float64 { return float64(x.Taken) }),
		perSensor("holdfast_sensor_failures_total", counter, "Readings that failed.", func(x *Sensor) float64 { return float64(x.Failures) }),
		perSensor("holdfast_sensor_missed_total", counter, "Readings that were not tried, because the one before or others on the bus took too long.", func(x *Sensor) float64 { return float64(x.Missed) }),
		perSensor("holdfast_sensor_left_out_total", counter, "Readings that were left out, because edges or messages came faster than the sensor's limit.", func(x *Sensor) float64 { return float64(x.LeftOut) }),
		{"holdfast_sensor_last_reading_timestamp_seconds", gauge, "When the last reading succeeded, in Unix time.", []string{"sensor"},
			func(s *Status, add func(float64, ...string)) {
				for _, x := range s.Sensors {
					if !x.LastGood.IsZero() {
						add(seconds(x.LastGood), x.Name)
					}
				}
			}},
		{"holdfast_reading", gauge, "The last published value, in its unit.", []string{"sensor", "quantity", "unit"},
			func(s *Status, add func(float64, ...string)) {
				for _, x := range s.Sensors {
					for _, r := range x.Readings {
						if x.State == "ok" { // never a stale one
							add(r.Value, x.Name, r.Quantity, r.Unit)
						}
					}
				}
			}},
		{"holdfast_output_up", gauge, "Whether the output's hardware answers.", []string{"output"},
			func(s *Status, add func(float64, ...string)) {
				for _, x := range s.Outputs {
					add(truth(x.State == "ok"), x.Name)
				}
			}},
		{"holdfast_output_value", gauge, "Where the output is; left out while that is not known.", []string{"output"},
			func(s *Status, add func(float64, ...string)) {
				for _, x := range s.Outputs {
					if x.Value != nil {
						add(*x.Value, x.Name)
					}
				}
			}},

		{"holdfast_listener_up", gauge, "Whether a listener is open.", []string{"listener"},
			func(s *Status, add func(float64, ...string)) {
				for _, l := range s.Listeners {
					add(truth(l.Open), l.URL)
				}
			}},
		one("holdfast_clients_connected", gauge, "Clients of the local broker that are connected.", func(s *Status) float64 { return float64(s.Clients.Connected) }),
		one("holdfast_sessions", gauge, "Sessions of clients, connected or not.", func(s *Status) float64 { return float64(s.Clients.Sessions) }),
		one("holdfast_subscriptions", gauge, "Subscriptions at the local broker.", func(s *Status) float64 { return float64(s.Clients.Subscriptions) }),
		one("holdfast_retained_messages", gauge, "Retained messages.", func(s *Status) float64 { return float64(s.Clients.Retained) }),
		one("holdfast_publishes_received_total", counter, "Publishes that clients sent.", func(s *Status) float64 { return float64(s.Clients.Received) }),
		one("holdfast_publishes_sent_total", counter, "Publishes that were sent to clients.", func(s *Status) float64 { return float64(s.Clients.Sent) }),
		{"holdfast_publishes_dropped_total", counter, "Messages that the broker did not deliver, or not as asked.", []string{"reason"},
			func(s *Status, add func(float64, ...string)) {
				d := s.Clients.Dropped
				add(float64(d.Queue), "queue")
				add(float64(d.Size), "size")
				add(float64(d.Expired), "expired")
				add(float64(d.Refused), "refused")
				add(float64(d.NotRetained), "not_retained")
				add(float64(d.Denied), "denied")
				add(float64(d.Unread), "unread")
			}},
		one("holdfast_logins_refused_total", counter, "Logins of clients that were refused.", func(s *Status) float64 { return float64(s.Clients.LoginsRefused) }),
		one("holdfast_clients_revoked_total", counter, "Connections that were refused or closed because the client's certificate is revoked.", func(s *Status) float64 { return float64(s.Clients.Revoked) }),
		one("holdfast_websocket_refused_total", counter, "WebSocket requests whose Host or Origin may not connect.", func(s *Status) float64 { return float64(s.Clients.RefusedHosts) }),
		one("holdfast_connections_rate_limited_total", counter, "Connections that were closed because too many came.", func(s *Status) float64 { return float64(s.Clients.RateLimited) }),
		one("holdfast_connections_oversized_total", counter, "Connections that were closed at a packet larger than broker.limits.packet.", func(s *Status) float64 { return float64(s.Clients.Oversized) }),
		{"holdfast_dashboard_refused_total", counter, "Connections and pages that the dashboard closed or refused at a limit: of all connections and requests (connections), of one address (address), of pages that look (pages).", []string{"limit"},
			func(s *Status, add func(float64, ...string)) {
				add(float64(s.Dashboard.Connections), "connections")
				add(float64(s.Dashboard.Address), "address")
				add(float64(s.Dashboard.Pages), "pages")
			}},

		{"holdfast_limit_reached_total", counter, "What was refused, closed or dropped at a limit of the local broker, by its key below broker.limits.", []string{"limit"},
			func(s *Status, add func(float64, ...string)) {
				for name, n := range s.Clients.Limits {
					add(float64(n), name)
				}
			}},
		{"holdfast_refusals_total", counter, "Failures that clients were answered, by the packet that tells and its reason. A client of MQTT 3.1.1 that gets no such packet, because the connection just ends, counts as well.", []string{"packet", "reason"},
			func(s *Status, add func(float64, ...string)) {
				for packet, reasons := range s.Clients.Refusals {
					for reason, n := range reasons {
						add(float64(n), packet, reason)
					}
				}
			}},

		perBridge("holdfast_bridge_connected", gauge, "Whether the upstream is connected.", func(b *Bridge) float64 { return truth(b.Connected) }),
		perBridge("holdfast_bridge_waiting_messages", gauge, "Messages in the journal for the upstream.", func(b *Bridge) float64 { return float64(b.Depth) }),
		{"holdfast_bridge_oldest_message_timestamp_seconds", gauge, "When the oldest message that waits was taken in, in Unix time; left out where none waits.", []string{"bridge"},
			func(s *Status, add func(float64, ...string)) {
				for _, b := range s.Bridges {
					if !b.Oldest.IsZero() {
						add(seconds(b.Oldest), b.Name)
					}
				}
			}},
		perBridge("holdfast_bridge_in_flight_messages", gauge, "Messages sent and not acknowledged.", func(b *Bridge) float64 { return float64(b.InFlight) }),
		perBridge("holdfast_bridge_sent_total", counter, "Messages of the journal that were sent, resends included.", func(b *Bridge) float64 { return float64(b.Sent) }),
		perBridge("holdfast_bridge_acknowledged_total", counter, "Messages that the upstream has acknowledged.", func(b *Bridge) float64 { return float64(b.Acknowledged) }),
		perBridge("holdfast_bridge_resent_total", counter, "Messages that were sent again.", func(b *Bridge) float64 { return float64(b.Resent) }),
		perBridge("holdfast_bridge_refused_total", counter, "Messages that cannot be sent.", func(b *Bridge) float64 { return float64(b.Refused) }),
		perBridge("holdfast_bridge_expired_total", counter, "Messages whose lifetime was over.", func(b *Bridge) float64 { return float64(b.Expired) }),
		perBridge("holdfast_bridge_qos0_sent_total", counter, "QoS 0 messages that were sent.", func(b *Bridge) float64 { return float64(b.QoS0Sent) }),
		perBridge("holdfast_bridge_qos0_dropped_total", counter, "QoS 0 messages that met no connection or a full queue.", func(b *Bridge) float64 { return float64(b.QoS0Dropped) }),
		perBridge("holdfast_bridge_received_total", counter, "Messages of the upstream that were published here.", func(b *Bridge) float64 { return float64(b.Received) }),
		perBridge("holdfast_bridge_duplicates_total", counter, "Messages of the upstream that had been published here before.", func(b *Bridge) float64 { return float64(b.Duplicates) }),
		perBridge("holdfast_bridge_looped_total", counter, "Messages that had been at this gateway before.", func(b *Bridge) float64 { return float64(b.Looped) }),
		{"holdfast_bridge_certificate_expiry_timestamp_seconds", gauge, "When a certificate, or the first of its chain, stops being valid, in Unix time.", []string{"bridge", "whose", "name"},
			func(s *Status, add func(float64, ...string)) {
				for _, b := range s.Bridges {
					for _, c := range b.Certificates {
						add(seconds(c.Expires), b.Name, c.What, c.Name)
					}
				}
			}},
		perBridge("holdfast_bridge_unmatched_rules", gauge, "Rules that have matched nothing since the bridge was made, ten minutes ago or more.", func(b *Bridge) float64 { return float64(len(b.Unmatched)) }),
		perBridge("holdfast_bridge_reconnects_total", counter, "Connections after the first.", func(b *Bridge) float64 { return float64(b.Reconnects) }),

		one("holdfast_journal_waiting_messages", gauge, "Messages that the slowest reader waits for.", func(s *Status) float64 { return float64(s.Journal.Depth) }),
		{"holdfast_journal_oldest_message_timestamp_seconds", gauge, "When the oldest message that a reader has not acknowledged was taken in, in Unix time; left out without one.", nil,
			func(s *Status, add func(float64, ...string)) {
				if !s.Journal.Oldest.IsZero() {
					add(seconds(s.Journal.Oldest))
				}
			}},
		one("holdfast_journal_size_bytes", gauge, "Size of the journal on disk.", func(s *Status) float64 { return float64(s.Journal.Bytes) }),
		one("holdfast_journal_max_size_bytes", gauge, "Most that it may take.", func(s *Status) float64 { return float64(s.Journal.MaxSize) }),
		one("holdfast_journal_segments", gauge, "Files of the journal.", func(s *Status) float64 { return float64(s.Journal.Segments) }),
		{"holdfast_journal_disk_free_bytes", gauge, "Space that is left on its file system.", nil,
			func(s *Status, add func(float64, ...string)) {
				if s.Journal.Free >= 0 {
					add(float64(s.Journal.Free))
				}
			}},
		one("holdfast_journal_up", gauge, "Whether the journal keeps what it is given.", func(s *Status) float64 { return truth(s.Journal.Broken == "" && !s.Journal.Failed) }),
		one("holdfast_journal_full", gauge, "Whether it refuses new messages.", func(s *Status) float64 { return truth(s.Journal.Full) }),
		one("holdfast_journal_messages_total", counter, "Messages that were made durable.", func(s *Status) float64 { return float64(s.Journal.Messages) }),
		one("holdfast_journal_commits_total", counter, "Commits.", func(s *Status) float64 { return float64(s.Journal.Commits) }),
		one("holdfast_journal_syncs_total", counter, "Flushes of files and directories.", func(s *Status) float64 { return float64(s.Journal.Syncs) }),
		one("holdfast_journal_written_bytes_total", counter, "Bytes handed to the file system.", func(s *Status) float64 { return float64(s.Journal.Written) }),
		one("holdfast_journal_refused_total", counter, "Messages that were not taken because the journal was full.", func(s *Status) float64 { return float64(s.Journal.Refused) }),
		one("holdfast_journal_failures_total", counter, "Writes and flushes that failed.", func(s *Status) float64 { return float64(s.Journal.Failures) }),
		one("holdfast_journal_damaged_bytes_total", counter, "Bytes that could not be read back.", func(s *Status) float64 { return float64(s.Journal.Damaged) }),
		{"holdfast_journal_lost_messages_total", counter, "Messages that were dropped, over the journal's life as far as it remembers.", []string{"reader", "reason"},
			func(s *Status, add func(float64, ...string)) {
				for _, l := range s.Journal.Losses {
					add(float64(l.Count), l.Reader, l.Reason)
				}
			}},
		one("holdfast_journal_flash_bytes_per_day", gauge, "What the journal writes a day, over its life; 0 while that is too young to tell.", func(s *Status) float64 { return float64(s.Journal.PerDay) }),

		{"holdfast_config_last_change_successful", gauge, "Whether the gateway uses the configuration that was loaded last; left out where it was not loaded again.", nil,
			func(s *Status, add func(float64, ...string)) {
				if s.Config.Last != nil {
					add(truth(s.Config.Last.Error == ""))
				}
			}},
		{"holdfast_config_last_change_timestamp_seconds", gauge, "When that was, in Unix time.", nil,
			func(s *Status, add func(float64, ...string)) {
				if s.Config.Last != nil {
					add(seconds(s.Config.Last.Time))
				}
			}},
		one("holdfast_config_on_trial", gauge, "Whether a configuration waits for its confirmation.", func(s *Status) float64 {
			return truth(s.Config.Trial != nil && s.Config.Trial.Outcome == "")
		}),
		one("holdfast_clock_synchronised", gauge, "Whether the machine's clock is synchronised.", func(s *Status) float64 { return truth(s.Clock.Synchronised) }),
		one("holdfast_clock_offset_seconds", gauge, "What the kernel still corrects; 0 if the clock is not synchronised.", func(s *Status) float64 { return s.Clock.Offset.Seconds() }),
		{"holdfast_under_voltage", gauge, "Whether the supply voltage is too low; only where the machine tells.", nil,
			func(s *Status, add func(float64, ...string)) {
				if s.Power != nil {
					add(truth(s.Power.UnderVoltage))
				}
			}},
		{"holdfast_throttled", gauge, "Whether the processor is slowed down; only where the machine tells.", nil,
			func(s *Status, add func(float64, ...string)) {
				if s.Power != nil {
					add(truth(s.Power.Throttled))
				}
			}},
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
