package uplinks

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"holdfast/broker/auth"
	"holdfast/broker/brokertest"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
)

// bench runs Uplinks without a gateway around them.
type bench struct {
	*Uplinks
	t *testing.T
}

func newBench(t *testing.T) *bench {
	fs, err := journal.NewDirFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := auth.New(auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Journal: j, Auth: rules, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Options{
		Device: "site", Journal: j, Server: s, DeadLetters: 1 << 20, Progress: func(string) func(bool) { return func(bool) {} }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{u, t}
}

func (b *bench) load(text string) *config.Config {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("device: {id: site}\n"+text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cfg, err := config.Load([]string{file}, config.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg
}

// reload applies a configuration, and returns what has changed.
func (b *bench) reload(text string) ([]string, error) {
	change, err := b.Prepare(b.load(text))
	if err != nil {
		return nil, err
	}
	change.Apply()
	return change.Describe(), nil
}

// TestEveryKeyOfABridgeIsTakenOver: whatever is different in a bridge, a reload has it run so, and exactly as a start
// would. A key that is new in the table has to come here.
func TestEveryKeyOfABridgeIsTakenOver(t *testing.T) {
	cert, key := brokertest.NewAuthority(t).Issue("site")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		base  = `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x}]`
		tls   = `client_id: x, upstream: ["mqtts://127.0.0.1:1"], out: [{filter: x}]`
		in    = base + `, in: [{filter: y}]`
		proxy = base + `, proxy: {url: "http://127.0.0.1:1", username: me`
		azure = `client_id: x, upstream: ["mqtts://h.example:1"], profile: azure-iot-hub, out: [{filter: x, prefix: "devices/x/messages/events/"}]`
	)
	keys := map[string][2]string{ // a bridge without and with the key, or with another value
		"name": {}, "was": {}, // another name is another bridge: TestReloadOfBridges
		"upstream":          {base, `client_id: x, upstream: ["mqtt://127.0.0.1:2"], out: [{filter: x}]`},
		"client_id":         {base, `client_id: y, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x}]`},
		"protocol":          {base, base + `, protocol: "5"`},
		"max_packet":        {base, base + `, max_packet: 1MiB`},
		"username":          {base, base + `, username: me`},
		"password":          {base + `, username: me, password: one`, base + `, username: me, password: two`},
		"window":            {base, base + `, window: 7`},
		"keep_alive":        {base, base + `, keep_alive: 7s`},
		"fail_back":         {base, base + `, fail_back: 7s`},
		"out":               {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x}, {filter: z}]`},
		"out[].filter":      {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: z}]`},
		"out[].qos":         {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x, qos: 0}]`},
		"out[].strip":       {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x, strip: x}]`},
		"out[].prefix":      {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x, prefix: p/}]`},
		"out[].priority":    {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x, priority: 3}]`},
		"out[].retained":    {base, `client_id: x, upstream: ["mqtt://127.0.0.1:1"], out: [{filter: x, retained: skip}]`},
		"in":                {base, in},
		"in[].filter":       {in, base + `, in: [{filter: z}]`},
		"in[].qos":          {in, base + `, in: [{filter: y, qos: 0}]`},
		"in[].strip":        {in, base + `, in: [{filter: y, strip: y}]`},
		"in[].prefix":       {in, base + `, in: [{filter: y, prefix: p/}]`},
		"session_expiry":    {base, base + `, session_expiry: 1d`},
		"priority":          {base, base + `, priority: 2`},
		"drain":             {base, base + `, drain: live-first`},
		"drain_share":       {base, base + `, drain_share: 20%`},
		"rate":              {base, base + `, rate: {messages: 5}`},
		"rate.messages":     {base, base + `, rate: {messages: 6}`},
		"rate.bytes":        {base, base + `, rate: {bytes: 50kB}`},
		"losses":            {base, base + `, losses: off`},
		"status":            {base, base + `, status: gateways/x`},
		"profile":           {base, base + `, profile: mosquitto`},
		"tls":               {tls, tls + `, tls: {server_name: a}`},
		"tls.ca":            {tls, tls + `, tls: {ca: ` + cert + `}`},
		"tls.cert":          {tls, tls + `, tls: {cert: ` + cert + `, key: ` + key + `}`},
		"tls.key":           {tls, tls + `, tls: {cert: ` + cert + `, key: ` + key + `}`},
		"tls.server_name":   {tls, tls + `, tls: {server_name: a}`},
		"tls.alpn":          {tls, tls + `, tls: {alpn: [mqtt]}`},
		"tls.min_version":   {tls, tls + `, tls: {min_version: "1.3"}`},
		"proxy":             {base, proxy + `}`},
		"proxy.url":         {base, base + `, proxy: {url: none}`},
		"proxy.username":    {base + `, proxy: {url: "http://127.0.0.1:1"}`, proxy + `}`},
		"proxy.password":    {proxy + `, password: one}`, proxy + `, password: two}`},
		"proxy.ca":          {proxy + `}`, proxy + `, ca: ` + cert + `}`},
		"server_references": {tls, tls + `, server_references: [h.example]`},
		"token_file":        {base + `, username: me`, base + `, username: me, token_file: ` + secret},
		"sas_key":           {azure + `, tls: {cert: ` + cert + `, key: ` + key + `}`, azure + `, sas_key: ` + secret},
	}
	table, err := os.ReadFile("../config/README.md") // which a test makes from the code
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `bridges\\[\\]\\.([^`]+)`").FindAllStringSubmatch(string(table), -1) {
		if _, known := keys[row[1]]; !known {
			t.Errorf("bridges[].%s is not tried", row[1])
		}
	}
	b := newBench(t)
	whole := func(bridge string) string { return "bridges: [{name: a, " + bridge + "}]\n" }
	for name, c := range keys {
		if c[0] == "" {
			continue
		}
		if _, err := b.reload(whole(c[0])); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l := b.links[0]
		was := l.now.Load()
		changes, err := b.reload(whole(c[1]))
		if err != nil || !slices.Equal(changes, []string{"bridge a: changed"}) {
			t.Errorf("%s: got %v, %v", name, changes, err)
			continue
		}
		want := b.load(whole(c[1])).Bridges[0]
		if l != b.links[0] || l.now.Load() == was || !reflect.DeepEqual(l.config, want) {
			t.Errorf("%s: runs as\n%+v, want\n%+v", name, l.config, want)
		}
		if changes, err := b.reload(whole(c[1])); err != nil || len(changes) > 0 {
			t.Errorf("%s: the same again: got %v, %v", name, changes, err)
		}
	}
}
