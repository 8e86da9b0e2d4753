// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	csv, err := os.Open("results.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer csv.Close()
	results, err := ReadResults(csv)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, results); err != nil {
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

// TestResults: what go test -json wrote becomes results, which are kept by test and place.
func TestResults(t *testing.T) {
	const log = `{"Action":"run","Package":"github.com/stackhop/stackhop/events","Test":"TestSafe"}
{"Action":"output","Package":"github.com/stackhop/stackhop/events","Test":"TestSafe","Output":"x"}
{"Action":"pass","Package":"github.com/stackhop/stackhop/events","Test":"TestSafe/part"}
{"Action":"fail","Package":"github.com/stackhop/stackhop/events","Test":"TestSafe"}
{"Action":"pass","Package":"github.com/stackhop/stackhop/events","Test":"TestSafe"}
# a line of the compiler
{"Action":"pass","Package":"github.com/stackhop/stackhop/events"}
{"Action":"pass","Package":"example.org/other","Test":"TestSafe"}
{"Action":"skip","Package":"github.com/stackhop/stackhop/tracer","Test":"TestGone"}
{"Action":"pass","Package":"github.com/stackhop/stackhop/scripts/labtest","Test":"TestKernels/5.10/leftovers"}
{"Action":"pass","Package":"github.com/stackhop/stackhop/scripts/labtest","Test":"TestKernels/5.10"}
{"Action":"fail","Package":"github.com/stackhop/stackhop/scripts/labtest","Test":"TestNames/many"}
`
	got, err := Collect([]Result{{Test: "lab:many", Where: "6.12", Status: "pass"}}, strings.NewReader(log), "6.18")
	if err != nil {
		t.Fatal(err)
	}
	want := []Result{{Test: "lab:many", Where: "6.12", Status: "fail"}, {Test: "events.TestSafe", Where: "6.18", Status: "fail"}, {Test: "tracer.TestGone", Where: "6.18", Status: "skip"},
		{Test: "lab:leftovers", Where: "5.10", Status: "pass"}}
	if !slices.Equal(got, want) {
		t.Errorf("collected %v, want %v", got, want)
	}
	old := []Result{{"lab:leftovers", "5.10", "fail", "2026-01-01", "a"}, {"lab:leftovers", "6.1", "pass", "2026-01-01", "a"}, {"lab:no-such", "6.1", "pass", "2026-01-01", "a"}}
	all := Merge(old, got)
	for r, want := range map[Result]bool{got[3]: true, old[0]: false, old[1]: true, old[2]: false, got[2]: false} {
		if slices.Contains(all, r) != want {
			t.Errorf("%v is among %v: %t", r, all, !want)
		}
	}
	var b bytes.Buffer
	if err := WriteResults(&b, all); err != nil {
		t.Fatal(err)
	}
	if again, err := ReadResults(&b); err != nil || !slices.Equal(again, all) {
		t.Errorf("read again: %v, %v", again, err)
	}
	for _, bad := range []string{"", "a,b\n", "test,where,status,date,commit\nx\n"} {
		if _, err := ReadResults(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestVerdict(t *testing.T) {
	it := Item{Tests: []string{"events.TestSafe", "lab:leftovers"}}
	for _, tt := range []struct {
		results []Result
		want    string
	}{
		{nil, "not run"},
		{[]Result{{Test: "events.TestSafe", Where: "6.18", Status: "skip"}}, "not run"},
		{[]Result{{Test: "events.TestSafe", Where: "6.18", Status: "pass"}}, "pass (6.18); not run: leftovers"},
		{[]Result{{Test: "events.TestSafe", Where: "6.18", Status: "pass"}, {Test: "lab:leftovers", Where: "5.10", Status: "pass"}}, "pass (5.10, 6.18)"},
		{[]Result{{Test: "events.TestSafe", Where: "6.18", Status: "pass"}, {Test: "lab:leftovers", Where: "5.10", Status: "fail"}}, "**fail**: leftovers on 5.10"},
	} {
		if got := verdict(&it, tt.results); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.results, got, tt.want)
		}
	}
	if got := verdict(&Item{}, nil); got != "–" {
		t.Errorf("without tests: %q", got)
	}
}
