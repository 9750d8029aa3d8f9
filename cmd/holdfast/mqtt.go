package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker/client"
	"holdfast/broker/dial"
	"holdfast/broker/journal"
)

const passwordVariable = "HOLDFAST_PASSWORD"

// connection holds the flags that pub and sub share.
type connection struct {
	url, host, id, user, passwordFile string
	port                              uint16
	secret                            []byte // password that is known already
	keep, insecure                    bool
	version, ca, cert, key            string
	keepAlive, timeout, expiry        time.Duration
}

const connectionHelp = `The broker is named by --url, or by --host and --port; without either it is the one on this machine.
` + passwordHelp

const passwordHelp = `A password is read from --password-file or from the variable ` + passwordVariable + `, never from the command
line, where others could see it.`

func (f *connection) flags(c *cobra.Command) {
	fl := c.Flags()
	fl.SortFlags = false
	fl.Bool("help", false, "show this") // -h is the host, as in other MQTT programs
	fl.StringVar(&f.url, "url", "", "broker's `URL`: mqtt://HOST:PORT, mqtts://, ws://HOST:PORT/PATH, wss:// or unix:///PATH")
	fl.StringVarP(&f.host, "host", "h", "127.0.0.1", "broker's `HOST`")
	fl.Uint16VarP(&f.port, "port", "p", 0, "broker's `PORT`; 1883, with TLS 8883")
	fl.StringVarP(&f.version, "protocol", "V", "5", "MQTT `VERSION`: 5 or 3.1.1")
	fl.StringVarP(&f.id, "id", "i", "", "client identifier; a random one if it is not given")
	fl.StringVarP(&f.user, "user", "u", "", "user `NAME`")
	fl.StringVar(&f.passwordFile, "password-file", "", "`FILE` whose first line is the password; - reads it from stdin")
	fl.StringVar(&f.ca, "ca", "", "PEM `FILE` of the authorities to trust; those of the system if it is not given")
	fl.StringVar(&f.cert, "cert", "", "PEM `FILE` of a client certificate")
	fl.StringVar(&f.key, "key", "", "PEM `FILE` of its key")
	fl.BoolVar(&f.insecure, "insecure", false, "take any certificate of the broker: for a look only")
	fl.DurationVarP(&f.keepAlive, "keepalive", "k", time.Minute, "MQTT keep alive, in whole seconds")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for each answer of the broker")
}

// options checks the flags and reads the files that they name.
func (f *connection) options(c *cobra.Command) (client.Options, error) {
	fail := func(format string, args ...any) (client.Options, error) {
		return client.Options{}, usageError{fmt.Errorf(format, args...)}
	}
	o := client.Options{ClientID: f.id, Username: f.user, Keep: f.keep, KeepAlive: f.keepAlive, Timeout: f.timeout}
	switch strings.TrimPrefix(strings.ToLower(f.version), "mqttv") {
	case "5", "5.0":
	case "3.1.1", "311", "4":
		o.V311 = true
	default:
		return fail("--protocol %q: want 5 or 3.1.1", f.version)
	}
	set := func(name string) bool { return c.Flags().Changed(name) }
	secure := set("ca") || set("cert") || set("insecure")
	address := f.url
	if !set("url") {
		scheme := "mqtt"
		if secure {
			scheme = "mqtts"
		}
		address = scheme + "://" + f.host
		if strings.Contains(f.host, ":") && !strings.HasPrefix(f.host, "[") {
			address = scheme + "://[" + f.host + "]"
		}
		if set("port") {
			address = scheme + "://" + net.JoinHostPort(strings.Trim(f.host, "[]"), strconv.Itoa(int(f.port)))
		}
	} else if set("host") || set("port") {
		return fail("--url has host and port in it: give one or the other")
	}
	var err error
	if o.URL, err = dial.ParseURL(address); err != nil {
		return fail("broker: %w", err)
	}
	if s := o.URL.Scheme; secure && s != "mqtts" && s != "wss" {
		return fail("--ca, --cert and --insecure are for mqtts and wss, and this is %s", s)
	}
	d := dial.New(dial.Options{
		TLS: dial.TLS{CA: f.ca, Cert: f.cert, Key: f.key, Insecure: f.insecure}, Proxy: dial.Proxy{URL: dial.NoProxy},
		Timeout: f.timeout, Clock: journal.Now,
	})
	if err := d.Check(); err != nil {
		return fail("%w", err)
	}
	o.Dial = d.Dial
	switch seconds := f.expiry / time.Second; {
	case f.keepAlive%time.Second != 0 || f.keepAlive < 0 || f.keepAlive > 65535*time.Second:
		return fail("--keepalive %v: want whole seconds, at most 65535s", f.keepAlive)
	case f.timeout <= 0:
		return fail("--timeout %v: want more than 0", f.timeout)
	case f.expiry < 0 || seconds > 1<<32-1:
		return fail("--session-expiry %v: want 0s to 1193046h", f.expiry)
	case f.keep && f.id == "":
		return fail("--keep-session needs --id: the broker knows a session by it")
	case o.ClientID == "":
		o.ClientID = "holdfast-" + rand.Text()[:12] // short enough for any broker
	}
	o.Expiry = uint32(f.expiry / time.Second)
	o.Password, err = f.password()
	if err != nil {
		return fail("%w", err)
	}
	if o.Password != nil && o.Username == "" {
		return fail("a password needs --user")
	}
	return o, nil
}

// password is nil if there is none.
func (f *connection) password() ([]byte, error) {
	if f.secret != nil {
		return f.secret, nil
	}
	if f.passwordFile == "" {
		if p, ok := os.LookupEnv(passwordVariable); ok && f.user != "" {
			return []byte(p), nil
		}
		return nil, nil
	}
	data, err := readInput(f.passwordFile)
	if err != nil {
		return nil, fmt.Errorf("--password-file: %w", err)
	}
	return firstLine(data), nil
}

// passwordInArguments answers those who know other programs.
func passwordInArguments(c *cobra.Command) {
	var p string
	c.Flags().StringVarP(&p, "password", "P", "", "")
	_ = c.Flags().MarkHidden("password")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("password") {
			return usageError{errors.New("no password on the command line, where others can see it: use --password-file FILE or the variable " + passwordVariable)}
		}
		return nil
	}
}

// seconds is a duration that may come as a plain number of seconds, as other MQTT programs take it.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration" }

func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("want seconds, or a duration such as 500ms or 2m")
	}
	*s = seconds(d)
	return nil
}
