// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer"
)

// TestCapture: what was captured is what the tracer gave, and can be read again.
func TestCapture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "case.jsonl")
	w := newWorld(t)
	if status := w.run("trace", "tcp", "--for", "1s", "--capture", path); status != exitDone {
		t.Fatalf("status %d: %s", status, w.stderr.String())
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := events.ReadCapture(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Events, w.tr.capture.Events) {
		t.Errorf("%d events are others than the %d of the tracer", len(c.Events), len(w.tr.capture.Events))
	}
	if !c.Header.HasFunctions || c.Header.Kernel != "6.12.0-test" || len(c.Header.Namespaces) == 0 {
		t.Errorf("header %+v", c.Header)
	}

	// Neither a file nor what a symbolic link points to is overwritten.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{path, link} {
		w := newWorld(t)
		if status := w.run("trace", "tcp", "--for", "1s", "--capture", taken); status != exitError || w.tr.closed != 0 {
			t.Errorf("%s: status %d, closed %d: %s", taken, status, w.tr.closed, w.stderr.String())
		}
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the capture was changed: %v", err)
	}
}

// TestCaptureWithoutTracer leaves no empty file behind.
func TestCaptureWithoutTracer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "case.jsonl")
	w := newWorld(t)
	w.sys.newTracer = func(tracer.Config) (liveTracer, error) { return nil, errors.New("no BTF") }
	if status := w.run("trace", "tcp", "--capture", path); status != exitError || !strings.Contains(w.stderr.String(), "no BTF") {
		t.Errorf("status %d: %s", status, w.stderr.String())
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// TestCaptureLimit: what does not fit is counted, and told.
func TestCaptureLimit(t *testing.T) {
	w := newWorld(t)
	c, err := newCapture(filepath.Join(t.TempDir(), "case.jsonl"), func(*os.File) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	c.limit = 2
	for i := range w.tr.capture.Events[:5] {
		c.add(&w.tr.capture.Events[i])
	}
	if err := c.write(w.tr, "", ""); err == nil || !strings.Contains(err.Error(), "3 events are missing") {
		t.Errorf("error %v", err)
	}
}
