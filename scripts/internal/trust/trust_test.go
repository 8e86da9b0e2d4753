// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite scripts/TRUST.md")

const root = "../../.."

// TestItems: each item has its number, and the tests that it names exist.
func TestItems(t *testing.T) {
	for i, it := range Items {
		switch {
		case it.Number != i+1:
			t.Errorf("item %d has the number %d", i+1, it.Number)
		case it.State == Missing && (len(it.Tests) > 0 || it.Lacks == ""), it.State == Partly && it.Lacks == "":
			t.Errorf("%d is %s, with tests %v, lacking %q", it.Number, it.State, it.Tests, it.Lacks)
		case it.State == Shown && len(it.Tests) == 0:
			t.Errorf("%d is shown by no test", it.Number)
		}
		for _, name := range it.Tests {
			if !exists(t, name) {
				t.Errorf("%d: there is no %s", it.Number, name)
			}
		}
	}
}

// exists says whether there is a test, or a check of the lab.
func exists(t *testing.T, name string) bool {
	t.Helper()
	pattern, files := "", ""
	if check, ok := strings.CutPrefix(name, "lab:"); ok {
		pattern, files = `\{"`+regexp.QuoteMeta(check)+`", (true|false), \(\*checker\)`, "scripts/lab/check.go"
	} else {
		dot := strings.LastIndexByte(name, '.')
		pattern, files = `(?m)^func `+regexp.QuoteMeta(name[dot+1:])+`\(`, name[:dot]+"/*_test.go"
	}
	list, err := filepath.Glob(filepath.Join(root, files))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(pattern).Match(text) {
			return true
		}
	}
	return false
}

// TestExists: the search itself, which must be able to fail.
func TestExists(t *testing.T) {
	for name, want := range map[string]bool{
		"events.TestSafe": true, "events.TestSaf": false, "events.TestCut": false, "lab:leftovers": true, "lab:left": false,
	} {
		if exists(t, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestPage: the page is what the list makes.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "scripts", "TRUST.md")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil { //nolint:gosec // a page for all to read
			t.Fatal(err)
		}
	}
	if was, err := os.ReadFile(file); err != nil || !bytes.Equal(was, b.Bytes()) {
		t.Errorf("%s is not what the list makes: go test ./scripts/internal/trust -update (%v)", file, err)
	}
}
