package dial

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// Credentials authenticate a client in its CONNECT packet. At most one of Password, TokenFile and
// SASKeyFile is set.
type Credentials struct {
	Username  string // empty for none
	Password  string
	TokenFile string // file with the password, read for each connection
	// SASKeyFile holds a base64 key that signs a token for each connection: a shared access signature
	// for SASResource, such as "myhub.azure-devices.net/devices/greenhouse-1" (Azure IoT Hub, "Control
	// access to IoT Hub by using shared access signatures", section "SAS token structure").
	SASKeyFile  string
	SASResource string
	Clock       func() (now time.Time, synced bool) // for the token's expiry; nil means time.Now
}

// SASLifetime is how long a shared access signature is valid. Then the service ends the connection, and
// the next one gets a new token.
const SASLifetime = 24 * time.Hour

// maxToken is the longest password of MQTT, in bytes [MQTT-3.1.3.5].
const maxToken = 65535

// Get returns the name and password for one connection. Its errors name files, never their content.
func (c *Credentials) Get() (username, password string, err error) {
	switch {
	case c.TokenFile != "":
		password, err = secretFile("token_file", c.TokenFile)
	case c.SASKeyFile != "":
		password, err = c.sas()
	default:
		password = c.Password
	}
	return c.Username, password, err
}

func (c *Credentials) sas() (string, error) {
	text, err := secretFile("sas_key", c.SASKeyFile)
	if err != nil {
		return "", err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) == 0 {
		return "", fmt.Errorf("sas_key %s: want the device's key in base64, as the service shows it, and nothing else", c.SASKeyFile)
	}
	now := time.Now()
	if c.Clock != nil {
		now, _ = c.Clock()
	}
	return sasToken(c.SASResource, key, now.Add(SASLifetime)), nil
}

func sasToken(resource string, key []byte, end time.Time) string {
	escaped, seconds := url.QueryEscape(resource), fmt.Sprint(end.Unix())
	sign := hmac.New(sha256.New, key)
	sign.Write([]byte(escaped + "\n" + seconds))
	return "SharedAccessSignature sr=" + escaped + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(sign.Sum(nil))) + "&se=" + seconds
}

// secretFile returns the text of a file without white space around it.
func secretFile(key, name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s %s: no such file", key, name)
	case err != nil:
		return "", fmt.Errorf("%s: %w", key, err)
	case !info.Mode().IsRegular() || info.Size() > maxToken:
		return "", fmt.Errorf("%s %s: want a file of at most %d bytes", key, name, maxToken)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("%s %s: this user may not read it: chgrp it to the gateway's group and chmod 640", key, name)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	text := strings.TrimSpace(string(data))
	switch {
	case text == "":
		return "", fmt.Errorf("%s %s: is empty", key, name)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return "", fmt.Errorf("%s %s: is not text", key, name)
	}
	return text, nil
}
