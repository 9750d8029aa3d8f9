package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
)

// machineApp is what machine-id(5) asks for: the machine's identifier is confidential, so what leaves the machine is a keyed
// hash of it that no other program has.
var machineApp = [16]byte{0x6c, 0x1f, 0x0b, 0x52, 0xd3, 0x9a, 0x4e, 0x77, 0x8d, 0x24, 0xb5, 0x60, 0xe1, 0x3a, 0xc9, 0x48}

// readMachineID returns what /etc/machine-id has (machine-id(5)): 32 lower case hexadecimal digits.
func readMachineID() (string, error) {
	b, err := os.ReadFile("/etc/machine-id")
	return strings.TrimSpace(string(b)), err
}

// machineSuffix derives 8 characters from a machine's identifier that differ from those of others, as sd_id128_get_machine_app_specific(3)
// makes an identifier for one program.
func machineSuffix(machine string) (string, error) {
	key, err := hex.DecodeString(machine)
	if err != nil || len(key) != 16 {
		return "", errors.New("not a machine identifier: want 32 hexadecimal digits") // "uninitialized", for one
	}
	h := hmac.New(sha256.New, key)
	h.Write(machineApp[:])
	return hex.EncodeToString(h.Sum(nil)[:4]), nil
}

// newClientID returns the first client identifier of a device whose id is its host name, which clones of a card share.
// Without a machine identifier it is the host name.
func (l *loader) newClientID() string {
	machine, err := l.opts.MachineID()
	if err != nil {
		return l.deviceID
	}
	suffix, err := machineSuffix(machine)
	if err != nil {
		return l.deviceID
	}
	return l.deviceID + "-" + suffix
}
