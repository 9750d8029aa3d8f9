package auth

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What NewHash spends on one password: the least that OWASP's password storage cheat sheet advises for
// argon2id, which a Pi can bear.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonKey    = 32 // bytes
	argonSalt   = 16
)

// The most that a hash of a file may cost: anything beyond is a mistake or an attack.
const (
	maxArgonMemory = 128 << 10 // KiB
	maxArgonTime   = 16
	maxArgonLanes  = 16
	maxBcryptCost  = 14
	maxIterations  = 2_000_000 // of PBKDF2
)

// hash is the stored form of a password.
type hash struct {
	text   string
	verify func(password []byte) bool
}

var errPlain = errors.New("is not a password hash: `holdfast passwd` makes one; argon2id, bcrypt and Mosquitto's $6$ and $7$ are known")

// NewHash hashes a password with argon2id and a random salt.
func NewHash(password []byte) string {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	makeRoom(argonMemory << 10)
	key := argon2.IDKey(password, salt, argonTime, argonMemory, argonLanes, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// CheckHash returns an error if text is not a supported hash. Its errors do not repeat it.
func CheckHash(text string) error {
	_, err := parseHash(text)
	return err
}

func parseHash(text string) (hash, error) {
	var verify func([]byte) bool
	var err error
	part := strings.Split(text, "$")
	switch {
	case len(part) < 4 || part[0] != "":
		return hash{}, errPlain
	case part[1] == "argon2id":
		verify, err = parseArgon2id(part[2:])
	case part[1] == "2a" || part[1] == "2b" || part[1] == "2y":
		verify, err = parseBcrypt(text)
	case part[1] == "6":
		verify, err = parseSHA512(part[2:])
	case part[1] == "7":
		verify, err = parsePBKDF2(part[2:])
	default:
		return hash{}, errPlain
	}
	return hash{text, verify}, err
}

// parseArgon2id takes version, costs, salt and key of the encoded form of the reference implementation.
func parseArgon2id(part []string) (func([]byte) bool, error) {
	var version int
	var memory, time, lanes uint32
	if len(part) != 4 {
		return nil, errors.New("is a damaged argon2id hash")
	}
	_, err1 := fmt.Sscanf(part[0], "v=%d", &version)
	_, err2 := fmt.Sscanf(part[1], "m=%d,t=%d,p=%d", &memory, &time, &lanes)
	salt, err3 := base64.RawStdEncoding.DecodeString(part[2])
	key, err4 := base64.RawStdEncoding.DecodeString(part[3])
	switch {
	case errors.Join(err1, err2, err3, err4) != nil || len(salt) < 8 || len(key) < 16 || len(key) > 128:
		return nil, errors.New("is a damaged argon2id hash")
	case version != argon2.Version:
		return nil, fmt.Errorf("is argon2id of version %d, want %d", version, argon2.Version)
	case memory < 8 || memory > maxArgonMemory || time < 1 || time > maxArgonTime || lanes < 1 || lanes > maxArgonLanes:
		return nil, fmt.Errorf("costs more than a login may: m=%d,t=%d,p=%d, want at most m=%d,t=%d,p=%d",
			memory, time, lanes, maxArgonMemory, maxArgonTime, maxArgonLanes)
	}
	return func(password []byte) bool {
		makeRoom(int64(memory) << 10)
		got := argon2.IDKey(password, salt, time, memory, uint8(lanes), uint32(len(key)))
		return subtle.ConstantTimeCompare(got, key) == 1
	}, nil
}

func parseBcrypt(text string) (func([]byte) bool, error) {
	stored := []byte(text)
	cost, err := bcrypt.Cost(stored)
	switch {
	case err != nil || len(text) != 60:
		return nil, errors.New("is a damaged bcrypt hash")
	case cost > maxBcryptCost:
		return nil, fmt.Errorf("costs more than a login may: bcrypt cost %d, want at most %d", cost, maxBcryptCost)
	}
	return func(password []byte) bool { return bcrypt.CompareHashAndPassword(stored, password) == nil }, nil
}

// makeRoom collects garbage where n bytes more would go beyond the soft limit of memory (debug.SetMemoryLimit): the
// memory of the check before is most of it, and the allocation of a new one waits for no collection by itself.
func makeRoom(n int64) {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return
	}
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(m)
	if used := m[0].Value.Uint64() - m[1].Value.Uint64() - m[2].Value.Uint64(); int64(used)+n > limit {
		runtime.GC()
	}
}

// mosquittoParts decodes salt and key of Mosquitto's own hashes, which are not those of crypt(3).
func mosquittoParts(part []string) (salt, key []byte, err error) {
	if len(part) == 2 {
		salt, err = base64.StdEncoding.DecodeString(part[0])
		if err == nil {
			key, err = base64.StdEncoding.DecodeString(part[1])
		}
	}
	if err != nil || len(salt) == 0 || len(key) != sha512.Size {
		return nil, nil, errors.New("is a damaged Mosquitto hash, or one of crypt(3), which is not supported: make it anew with `holdfast passwd`")
	}
	return salt, key, nil
}

// parseSHA512 parses a hash of mosquitto_passwd before version 2: one SHA-512 of password and salt. It
// is weak, and supported for old files.
func parseSHA512(part []string) (func([]byte) bool, error) {
	salt, key, err := mosquittoParts(part)
	return func(password []byte) bool {
		got := sha512.Sum512(append(bytes.Clone(password), salt...))
		return subtle.ConstantTimeCompare(got[:], key) == 1
	}, err
}

// parsePBKDF2 parses a hash of mosquitto_passwd since version 2.
func parsePBKDF2(part []string) (func([]byte) bool, error) {
	salt, key, err := mosquittoParts(part[1:])
	if err != nil {
		return nil, err
	}
	iterations, err := strconv.Atoi(part[0])
	if err != nil || iterations < 1 || iterations > maxIterations {
		return nil, fmt.Errorf("want 1 to %d iterations of PBKDF2", maxIterations)
	}
	return func(password []byte) bool {
		got, err := pbkdf2.Key(sha512.New, string(password), salt, iterations, len(key))
		return err == nil && subtle.ConstantTimeCompare(got, key) == 1
	}, nil
}
