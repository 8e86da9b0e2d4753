// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// keyPrefix begins the one line of a key file; the key follows in hexadecimal.
const keyPrefix = "stackhop-redact-key-v1 "

// maxKeyFile bounds what is read of a key file, in bytes.
const maxKeyFile = len(keyPrefix) + 2*KeySize + 2

// ErrNotKey is wrapped by errors about a file that holds no key.
var ErrNotKey = errors.New("not a stackhop redaction key")

// Key is the secret that pseudonyms are made with.
type Key [KeySize]byte

// NewKey makes a key from the system's random numbers.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails, says its documentation
	return k
}

// ParseKey reads the text of a key file.
func ParseKey(text string) (Key, error) {
	var k Key
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	digits, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return k, fmt.Errorf("%w: it does not begin with %q", ErrNotKey, strings.TrimSpace(keyPrefix))
	}
	if len(digits) != 2*KeySize {
		return k, fmt.Errorf("%w: %d hexadecimal digits, not %d", ErrNotKey, len(digits), 2*KeySize)
	}
	if _, err := hex.Decode(k[:], []byte(digits)); err != nil {
		return Key{}, fmt.Errorf("%w: its digits are not hexadecimal", ErrNotKey) // err would show a byte of it
	}
	return k, nil
}

// ReadKey reads a key file. One that others than its owner can read or write is
// refused, since its pseudonyms may already be undone by anyone.
func ReadKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("redaction key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("redaction key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Key{}, fmt.Errorf("redaction key %s: %w: not a regular file", path, ErrNotKey)
	}
	// Windows has no such bits; Go makes them up there.
	if perm := st.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return Key{}, fmt.Errorf("redaction key %s: others may read or write it (mode %04o): chmod 600 it, or make a new one", path, perm)
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(maxKeyFile)+1))
	if err != nil {
		return Key{}, fmt.Errorf("redaction key: %w", err)
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("redaction key %s: %w", path, err)
	}
	return k, nil
}

// WriteKey writes a key into a new file that only its owner can read. It never
// overwrites a file, and never follows a link: the error is os.ErrExist.
// own is called with it before anything is written; nil: nothing is done.
func WriteKey(path string, k Key, own func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if err != nil {
		return fmt.Errorf("redaction key: %w", err)
	}
	if own != nil {
		err = own(f)
	}
	if err != nil {
		_ = errors.Join(f.Close(), os.Remove(path)) // err says enough
		return fmt.Errorf("redaction key: %w", err)
	}
	_, err = f.WriteString(keyPrefix + hex.EncodeToString(k[:]) + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half a key is worth nothing
		return fmt.Errorf("redaction key: %w", err)
	}
	return nil
}

// Fingerprint tells keys apart without giving anything away: 16 hexadecimal
// digits. Recordings with equal fingerprints have the same pseudonyms.
func (k Key) Fingerprint() string {
	d := k.derive("fingerprint")
	return hex.EncodeToString(d[:8])
}

// String hides the key from logs; it is the fingerprint.
func (k Key) String() string { return "key " + k.Fingerprint() }

// GoString hides the key as String does.
func (k Key) GoString() string { return k.String() }

// derive makes the key for one purpose, so that no two purposes share one.
func (k Key) derive(purpose string) [sha256.Size]byte {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte("stackhop redact v1 " + purpose))
	return [sha256.Size]byte(m.Sum(nil))
}
