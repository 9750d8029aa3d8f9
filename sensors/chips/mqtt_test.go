package chips_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// said are messages of one topic, in the form in which devices publish them: Tasmota (its documentation, "MQTT" and
// "Energy meter"), Shelly Gen2 and Gen3 (the API reference, "Notifications" and "Component status"), Zigbee2MQTT
// ("MQTT topics and messages"), ESPHome ("MQTT client component"), Theengs Gateway ("Use") and Victron's dbus-mqtt
// (its README). want are the values of each message, by quantity.
var said = []struct {
	device string
	values map[string]string // nil: the whole text
	say    []string
	want   []string // as fmt prints a map; "" for none, "!" before what cannot be read beside them
}{
	{"Tasmota SENSOR", map[string]string{"temperature": "AM2301.Temperature", "humidity": "AM2301.Humidity", "power": "ENERGY.Power"}, []string{
		`{"Time":"2026-03-01T10:00:00","AM2301":{"Temperature":19.7,"Humidity":55.8,"DewPoint":10.6},"TempUnit":"C"}`,
		`{"Time":"2026-03-01T10:05:00","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":12.345,"Power":231,"Voltage":229}}`,
		`{"Time":"2026-03-01T10:10:00","AM2301":{"Temperature":null,"Humidity":null,"DewPoint":null},"TempUnit":"C"}`,
		`{"Time":"2026-03-01T10:15:00","AM2301":{"Temperature":-0.3,"Humidity":null}}`,
	}, []string{"map[humidity:55.8 temperature:19.7]", "map[power:231]", "", "map[temperature:-0.3]"}},
	{"Tasmota STATE", map[string]string{"on": "POWER", "signal": "Wifi.RSSI"}, []string{
		`{"Time":"2026-03-01T10:00:00","Uptime":"0T00:10:00","POWER":"ON","Wifi":{"AP":1,"RSSI":74}}`, `{"POWER":"OFF"}`, `{"POWER":"TOGGLE"}`,
	}, []string{"map[on:1 signal:74]", "map[on:0]", "!"}},
	{"Shelly Gen2 events/rpc", map[string]string{"power": `params["switch:0"].apower`, "on": `params["switch:0"].output`, "temperature": "params.switch:0.temperature.tC"}, []string{
		`{"src":"shellyplus1pm-a8032abe54dc","dst":"x/events","method":"NotifyStatus","params":{"ts":1772359200.04,"switch:0":{"id":0,"apower":42.5}}}`,
		`{"src":"shellyplus1pm-a8032abe54dc","method":"NotifyStatus","params":{"ts":1772359201.04,"switch:0":{"id":0,"output":true,"source":"button"}}}`,
		`{"src":"shellyplus1pm-a8032abe54dc","method":"NotifyEvent","params":{"ts":1772359201.1,"events":[{"component":"input:0","id":0,"event":"single_push","ts":1772359201.1}]}}`,
		`{"src":"shellyplus1pm-a8032abe54dc","method":"NotifyFullStatus","params":{"ts":1772359210,"switch:0":{"id":0,"output":false,"apower":0.0,"temperature":{"tC":48.2,"tF":118.7}},"wifi":{"rssi":-60}}}`,
		`{"id":1,"src":"shellyplus1pm-a8032abe54dc","error":{"code":-103,"message":"Invalid argument"}}`,
	}, []string{"map[power:42.5]", "map[on:1]", "", "map[on:0 power:0 temperature:48.2]", ""}},
	{"Shelly Gen3 H&T", map[string]string{"temperature": "tC"}, []string{`{"id":0,"tC":21.4,"tF":70.5}`, `{"id":0,"tC":null,"tF":null,"errors":["read"]}`},
		[]string{"map[temperature:21.4]", ""}},
	{"Zigbee2MQTT", map[string]string{"temperature": "temperature", "battery": "battery", "contact": "contact", "linkquality": "linkquality"}, []string{
		`{"battery":97,"linkquality":120}`, `{"temperature":21.61,"linkquality":118}`, `{"contact":false,"battery":null,"temperature":null}`,
		`{"contact":true,"temperature":"","linkquality":3}`, `{"update":{"state":"idle"},"last_seen":"2026-03-01T10:00:00+01:00"}`,
	}, []string{"map[battery:97 linkquality:120]", "map[linkquality:118 temperature:21.61]", "map[contact:0]", "!map[contact:1 linkquality:3]", ""}},
	{"ESPHome", nil, []string{"21.50", "nan", "-3", "NAN", "ON", "1e3", "unknown", "21,5"}, []string{"map[value:21.5]", "", "map[value:-3]", "", "map[value:1]", "map[value:1000]", "", "!"}},
	{"Theengs", map[string]string{"temperature": "tempc", "humidity": "hum", "battery": "batt", "signal": "rssi"}, []string{
		`{"name":"ATC_1234","id":"A4:C1:38:00:00:01","rssi":-71,"brand":"Xiaomi","model":"TH Sensor","tempc":22.3,"tempf":72.14,"hum":48.1,"batt":88,"volt":2.93}`,
		`{"id":"A4:C1:38:00:00:01","rssi":-80}`, `{"id":"A4:C1:38:00:00:01","rssi":-79,"tempc":NaN,"hum":47}`, `{"name":"NaN","tempc":Infinity,"hum":46,"batt":-Infinity}`,
	}, []string{"map[battery:88 humidity:48.1 signal:-71 temperature:22.3]", "map[signal:-80]", "map[humidity:47 signal:-79]", "map[humidity:46]"}},
	{"Victron", map[string]string{"value": "value"}, []string{`{"value": 13.42}`, `{"value": null}`, `{"max": 100, "min": 0, "value": 88}`, `{"value": []}`, `{"value": "Bulk"}`}, []string{"map[value:13.42]", "", "map[value:88]", "!", "!"}},
	{"names with dots and brackets", map[string]string{"a": `["1.8.0"].value`, "b": `x['y[0]'][1]`}, []string{`{"1.8.0":{"value":1},"x":{"y[0]":[0,2]}}`, `{"1":{"8":{"0":3}}}`},
		[]string{"map[a:1 b:2]", ""}},
	{"what no device should send", map[string]string{"a": "a", "b": "b"}, []string{
		`{"a":1e999,"b":2}`, "{", "", "null", "[]", "7", `{"a":1}{"a":2}`, "{\"a\":1}\x00", "\xff\xfe", `{"a":{"b":1},"b":3}`, `{"a":1,"a":2}`, strings.Repeat(" ", 70<<10) + `{"a":1}`,
	}, []string{"!map[b:2]", "!", "!", "", "", "", "!", "map[a:1]", "!", "!map[b:3]", "map[a:2]", "!"}},
}

// values prints measurements that belong to one message.
func values(m []sensors.Measurement) string {
	got := map[string]float64{}
	for _, v := range m {
		got[v.Quantity] = v.Value
	}
	if len(got) == 0 {
		return ""
	}
	return fmt.Sprint(got)
}

// TestEachMessageByItself sends every message alone: it is read as it comes, at its time, and the subscription stays.
func TestEachMessageByItself(t *testing.T) {
	for _, d := range said {
		synctest.Test(t, func(t *testing.T) {
			woken := 0
			s, say := listen(t, d.values, func() { woken++ })
			for i, text := range d.say {
				time.Sleep(time.Minute)
				at := time.Now()
				say([]byte(text))
				time.Sleep(time.Second)
				if woken != i+1 {
					t.Fatalf("%s: woken %d times by %d messages", d.device, woken, i+1)
				}
				m, err := s.Take(t.Context())
				var kept *sensors.Unreadable
				want, bad := strings.CutPrefix(d.want[i], "!")
				if got := values(m); got != want || errors.As(err, &kept) != bad || err != nil && !bad {
					t.Errorf("%s: %.80s: got %s, %v, want %s", d.device, text, got, err, d.want[i])
				}
				for _, v := range m {
					if !v.Time.Equal(at) {
						t.Errorf("%s: %s is of %v, came at %v", d.device, v.Quantity, v.Time, at)
					}
				}
			}
		})
	}
}

// TestABurstOfMessages sends all kinds at once, mixed with each other: each value of each message is there, in order.
func TestABurstOfMessages(t *testing.T) {
	for _, d := range said {
		synctest.Test(t, func(t *testing.T) {
			s, say := listen(t, d.values, nil)
			random := rand.New(rand.NewPCG(7, uint64(len(d.say))))
			var want []string
			for range 400 {
				i := random.IntN(len(d.say))
				say([]byte(d.say[i]))
				if w := strings.TrimPrefix(d.want[i], "!"); w != "" {
					want = append(want, w)
				}
				time.Sleep(time.Millisecond)
			}
			var got []string
			m, _ := s.Take(t.Context())
			for len(m) > 0 {
				n := 1
				for n < len(m) && m[n].Time.Equal(m[0].Time) {
					n++
				}
				got = append(got, values(m[:n]))
				m = m[n:]
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %d readings, want %d: %v", d.device, len(got), len(want), got)
			}
			if s.LeftOut() != 0 {
				t.Errorf("%s: %d left out", d.device, s.LeftOut())
			}
		})
	}
}

// A sender without end becomes 100 messages a second after the first thousand. The newest one is never left out, and
// each of the others is counted.
func TestMessagesHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50_000
		s, say := listen(t, nil, nil)
		taken, last := 0, 0.0
		take := func() {
			m, err := s.Take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range m {
				if v.Value <= last {
					t.Fatalf("%v came after %v", v.Value, last)
				}
				last = v.Value
			}
			taken += len(m)
		}
		for i := range n {
			say(fmt.Append(nil, i+1))
			time.Sleep(100 * time.Microsecond)
			if i%10 == 0 {
				take()
			}
		}
		time.Sleep(time.Second)
		take()
		if last != n || taken < 1000+400 || taken > 1000+600 || s.LeftOut() != uint64(n-taken) {
			t.Errorf("%d of %d messages in 5 s, the last %v, %d left out", taken, n, last, s.LeftOut())
		}
		// One that is never taken keeps what fits.
		for range 10_000 {
			say(slices.Repeat([]byte("1"), 60<<10))
		}
		m, _ := s.Take(t.Context())
		if len(m) > 5 {
			t.Errorf("%d messages of 60 KiB were kept", len(m))
		}
	})
}

// TestMQTTSaysWhatIsWrong: at its slot a silent sensor says why, in words that do not change.
func TestMQTTSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, say := listen(t, map[string]string{"temperature": "temp", "humidity": "hum"}, nil)
		wrong := func(want string) {
			t.Helper()
			var kept *sensors.Unreadable
			if _, err := s.Sense(t.Context()); !errors.As(err, &kept) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		var later *sensors.NotYet
		if _, err := s.Sense(t.Context()); !errors.As(err, &later) || later.After < 5*time.Minute || later.After > 5*time.Minute+time.Second {
			t.Errorf("at first: %v", err)
		}
		time.Sleep(6 * time.Minute)
		wrong("no message on home/x within 5m0s")
		say([]byte(`{"temperature":21}`))
		wrong("messages come on home/x, but none within 5m0s has humidity or temperature: check values")
		say([]byte(`{"temp":"warm"}`))
		wrong(`temp: got "warm"`)
		say([]byte(`{"temp":21}`))
		if m, err := s.Sense(t.Context()); values(m) != "map[temperature:21]" || err != nil {
			t.Errorf("got %v, %v", m, err)
		}
		if _, err := s.Sense(t.Context()); !errors.As(err, &later) {
			t.Errorf("got %v", err)
		}
	})
	for _, place := range []string{"", ".", "a..b", "a.", "a[", "a[x]", "a[1", `a["b`, `a["b"`, `a["b"]c`, "a[0]b", "a.[0]", "a[-1]", "[]"} {
		if _, err := outside(t, "mqtt", map[string]any{"topic": "t", "values": map[string]string{"v": place}}); err == nil || !strings.Contains(err.Error(), "place") {
			t.Errorf("place %q: got %v", place, err)
		}
	}
	if _, err := outside(t, "mqtt", map[string]any{"topic": "t", "max_age": time.Duration(0)}); err == nil || !strings.Contains(err.Error(), "max_age") {
		t.Errorf("max_age 0s: got %v", err)
	}
}

// TestTheTimeOfTheSender: a message that says when it was measured is of then, whenever it comes, and one that does not
// or cannot be right is of when it came.
func TestTheTimeOfTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(26*365*24*time.Hour + 90*time.Minute) // a bubble begins in 2000
		now := time.Now()
		local := now.Add(-time.Minute).Local().Format("2006-01-02T15:04:05")
		s, say := listenWith(t, map[string]any{"values": map[string]string{"v": "v"}, "time": "at.ts"}, nil)
		for _, c := range []struct {
			ts   string
			want time.Duration // before it came
			bad  bool
		}{
			{fmt.Sprintf("%q", now.Add(-time.Hour).UTC().Format(time.RFC3339)), time.Hour, false},
			{fmt.Sprintf("%q", now.Add(-2*time.Hour).In(time.FixedZone("", 5400)).Format(time.RFC3339Nano)), 2 * time.Hour, false},
			{fmt.Sprintf("%q", local), time.Minute, false},
			{fmt.Sprint(now.Unix() - 10), 10 * time.Second, false},
			{fmt.Sprintf("%d.04", now.Unix()-20), 20*time.Second - 40*time.Millisecond, false},
			{fmt.Sprint(now.UnixMilli() - 1500), 1500 * time.Millisecond, false},
			{fmt.Sprintf("%q", fmt.Sprint(now.Unix()-10)), 10 * time.Second, false},
			{fmt.Sprint(now.Unix() + 3), -3 * time.Second, false}, // clocks differ
			{fmt.Sprint(now.Unix() + 3600), 0, true},
			{`"1970-01-01T00:00:12Z"`, 0, true}, // before its clock was set
			{"12", 0, true},
			{"-1", 0, true}, {"1e300", 0, true}, {`"now"`, 0, true}, {"true", 0, true}, {"[]", 0, true},
			{"null", 0, false},
		} {
			say([]byte(`{"v":1,"at":{"ts":` + c.ts + `}}`))
			m, err := s.Take(t.Context())
			if values(m) != "map[v:1]" || (err != nil) != c.bad {
				t.Errorf("%s: got %v, %v", c.ts, m, err)
			} else if got := now.Sub(m[0].Time); got != c.want {
				t.Errorf("%s: is of %v before it came, want %v", c.ts, got, c.want)
			}
		}
		say([]byte(`{"v":1}`))
		if m, err := s.Take(t.Context()); err != nil || len(m) != 1 || !m[0].Time.Equal(now) {
			t.Errorf("without a time: got %v, %v", m, err)
		}
	})
	for _, wrong := range []map[string]any{{"topic": "t", "time": "a["}, {"topic": "t", "time": "a"}} {
		wrong["values"] = map[string]string{}
		if _, err := outside(t, "mqtt", wrong); err == nil || !strings.Contains(err.Error(), "time: ") {
			t.Errorf("%v: got %v", wrong, err)
		}
	}
}

// listen opens a sensor on a topic, and returns what publishes to it.
func listen(t *testing.T, values map[string]string, wake func()) (sensors.Source, func([]byte)) {
	t.Helper()
	return listenWith(t, map[string]any{"values": values}, wake)
}

func listenWith(t *testing.T, options map[string]any, wake func()) (sensors.Source, func([]byte)) {
	t.Helper()
	host := &station{}
	c := config("s", "mqtt", "", 10*time.Second)
	c.Host, c.Wake = host, wake
	c.Options["topic"] = "home/x"
	maps.Copy(c.Options, options)
	d := driver(t, "mqtt")
	if err := d.Check(c); err != nil {
		t.Fatal(err)
	}
	s, err := d.Open(context.Background(), c, bus.NewSet(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(sensors.Source), func(b []byte) { host.say(b) }
}
