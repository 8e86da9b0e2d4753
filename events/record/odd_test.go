// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOddFiles: what is no recording is called what it is.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	newer := func(major uint16, minor byte) []byte {
		return append([]byte(fileMagic), byte(major), byte(major>>8), minor, 0, 0, 0, 0, 0)
	}
	sent := func(from, to string) []byte {
		return bytes.ReplaceAll(newer(1, 0), []byte(from), []byte(to))
	}
	for _, tt := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"empty", nil, ErrEmpty, "empty"},
		{"text", []byte("a text, long enough to be one\n"), ErrNotRecording, "not a stackhop recording"},
		{"our own text", []byte("stackhop-redact-key-v1 0123456789abcdef\n"), ErrNotRecording, "not a stackhop recording"},
		{"short", newer(1, 0)[:11], ErrNotRecording, "cut off after 11 bytes"},
		{"shorter", newer(1, 0)[:1], ErrNotRecording, "cut off after 1 bytes"},
		{"sent as text to Unix", sent("\r\n", "\n"), ErrNotRecording, "as text"},
		{"sent as text to Windows", sent("\n", "\r\n"), ErrNotRecording, "as text"},
		{"sent as text from Windows", sent("\x1a\n", "\x1a\r\n"), ErrNotRecording, "as text"},
		{"sent in 7 bits", sent("\x8e", "\x0e"), ErrNotRecording, "as text"},
		{"sent as Latin-1", sent("\x8e", "\u008e"), ErrNotRecording, "as text"},
		{"sent as UTF-8", sent("\x8e", "\ufffd"), ErrNotRecording, "as text"},
		{"other short text", []byte("x"), ErrNotRecording, "not a stackhop recording"},
		{"newer", newer(2, 1), ErrNewer, "format is 2.1"},
		{"newest", newer(255, 0), ErrNewer, "format is 255.0"},
		{"absurd", newer(256, 0), ErrNotRecording, "not a stackhop recording"},
		{"absurd text", []byte(fileMagic + "text as it comes"), ErrNotRecording, "not a stackhop recording"},
		{"none", newer(0, 0), ErrNotRecording, "no format 0.0"},
		{"nothing", newer(1, 0), ErrNoMeta, "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, "x")
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if _, err := NewReader(f); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v", err)
			}
		})
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if _, err := NewReader(d); err == nil || errors.Is(err, ErrEmpty) || errors.Is(err, ErrNotRecording) {
		t.Errorf("a directory: %v", err)
	}
}
