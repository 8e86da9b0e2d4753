// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.key")
	k := NewKey()
	if err := WriteKey(path, k, nil); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKey(path)
	if err != nil || got != k {
		t.Fatalf("read another key than was written: %v", err)
	}
	if err := WriteKey(path, NewKey(), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("writing over a key: %v, want ErrExist", err)
	}
	if again, err := ReadKey(path); err != nil || again != k {
		t.Errorf("the key has changed: %v", err)
	}
	if runtime.GOOS == "windows" {
		return // has neither modes nor links for everyone
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of a key file: %v, %v", st.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := WriteKey(link, k, nil); err == nil {
		t.Error("a key was written through a link")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that the group reads: %v", err)
	}
}

func TestBadKeyFiles(t *testing.T) {
	digits := strings.Repeat("ab", KeySize)
	for name, text := range map[string]string{
		"empty":      "",
		"no prefix":  digits + "\n",
		"short":      keyPrefix + digits[2:] + "\n",
		"long":       keyPrefix + digits + "ab\n",
		"no digits":  keyPrefix + "xy" + digits[2:] + "\n",
		"more lines": keyPrefix + digits + "\nmore\n",
		"large":      strings.Repeat(keyPrefix, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadKey(path)
			if !errors.Is(err, ErrNotKey) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want ErrNotKey and the path", err)
			}
			if strings.Contains(fmt.Sprint(err), "abab") {
				t.Errorf("error shows the key: %v", err)
			}
		})
	}
	if _, err := ReadKey(t.TempDir()); !errors.Is(err, ErrNotKey) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := ReadKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if k, err := ParseKey(keyPrefix + digits + "\r\n"); err != nil || hex.EncodeToString(k[:]) != digits {
		t.Errorf("a key with a line end of Windows: %v", err)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	k := NewKey()
	secret := hex.EncodeToString(k[:])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, k); strings.Contains(s, secret) || !strings.Contains(s, k.Fingerprint()) {
			t.Errorf("%s prints %s", verb, s)
		}
	}
	if k.Fingerprint() == NewKey().Fingerprint() {
		t.Error("two keys have one fingerprint")
	}
}
