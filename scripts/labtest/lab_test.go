// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package labtest runs the lab's checks on every kernel, in virtual machines:
//
//	go test -tags lab -timeout 45m ./scripts/labtest
//	go test -tags lab ./scripts/labtest -run TestKernels -kernels 6.12 -checks cases,churn -v
//
// Each kernel is a machine, each check a test.
package labtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	kernels = flag.String("kernels", "5.10,6.1,6.12,6.18,7", "the kernel series to boot")
	only    = flag.String("checks", "", "the checks to run (default: all)")
	limit   = flag.Int("limit", 1800, "seconds that one machine may take")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments")
	spread  = flag.Bool("spread", false, "the checks that take longest on one kernel each, see longest, and what make test-verdicts runs on -newest")
	newest  = flag.String("newest", "7", "with -spread, the kernels of TestVerdicts, TestHealthy, TestVXLAN and TestNested")
	update  = flag.Bool("update", false, "rewrite the lists in testdata/kernels/SERIES")
)

// root is the repository.
const root = "../.."

// A result is what the lab says of one check.
type result struct {
	Name    string   `json:"name"`
	Seconds float64  `json:"seconds"`
	Error   string   `json:"error"`
	Facts   []string `json:"facts"`
}

// longest are checks that take minutes, and where make test has time for them: bpf()
// needs a capability on 5.10. ends failed once on 6.12, where the kernel had not counted
// the kill; it, half, which takes two minutes, and functions, ten, are make test-lab's alone.
var longest = map[string][]string{
	"privileges": {"5.10"}, "refused": {"6.1"}, "modules": {"6.12"}, "ends": nil, "losses": {"7"}, "half": nil, "functions": nil,
}

func TestKernels(t *testing.T) {
	bin, test := build(t), tracerTest(t)
	t.Parallel()
	of := func(series string) []string {
		return slices.DeleteFunc(checks(t, bin), func(name string) bool {
			where, long := longest[name]
			return *spread && long && !slices.Contains(where, series)
		})
	}
	onKernels(t, *kernels, 20*time.Minute, func(t *testing.T, series string) *machine { return boot(t, bin, series, of(series), "-f", test) }, func(t *testing.T, series string, m *machine) {
		for _, name := range of(series) {
			t.Run(name, func(t *testing.T) { m.check(t, name) })
		}
	})
}

// onKernels runs a machine of each kernel, some of them at a time, and then looks at
// what each came to.
func onKernels(t *testing.T, kernels string, lasts time.Duration, run func(t *testing.T, series string) *machine, look func(t *testing.T, series string, m *machine)) {
	for _, series := range strings.Split(kernels, ",") {
		t.Run(series, func(t *testing.T) {
			slots.take(t, lasts)
			look(t, series, run(t, series))
		})
	}
}

// inDepth are the kernels of the tests that have a command of their own, make
// test-verdicts.
func inDepth() string {
	if *spread {
		return *newest
	}
	return *kernels
}

// programs is where the two programs are that the guests get, made once for all tests.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	var err error
	if programs.dir, err = os.MkdirTemp("", "labtest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(programs.dir)
	os.Exit(status)
}

// build makes them, unless another test has.
func build(t *testing.T) string {
	t.Helper()
	programs.once.Do(func() {
		for name, from := range map[string]string{"stackhop": "./cmd/stackhop", "lab": "./scripts/lab"} {
			cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(programs.dir, name), from)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
			if out, err := cmd.CombinedOutput(); err != nil {
				programs.err = errors.Join(programs.err, fmt.Errorf("build %s: %w\n%s", from, err, out))
			}
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return programs.dir
}

// checks asks the lab which checks there are, so that one that did not run is noticed.
func checks(t *testing.T, bin string) []string {
	t.Helper()
	if *only != "" {
		return strings.Split(*only, ",")
	}
	out, err := exec.Command(filepath.Join(bin, "lab"), "check", "-list").Output()
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(bare), strings.Fields(string(out))...)
}

// bare are the checks that want a guest without the cluster.
var bare = []string{"modules", "instructions", "functions"}

// tracerTest makes the tracer's test, for the checks instructions and functions.
func tracerTest(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tracer.test")
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", path, "./tracer")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the tracer's test: %v\n%s", err, out)
	}
	return path
}

// A machine is one kernel's run of all checks.
type machine struct {
	series  string
	results []result
	log     []string // what it said, for a check that did not come to its end
	out     string   // the folder with what it left
	err     error
}

// boot runs the checks in a machine: those that want no cluster first. The arguments
// are more of scripts/vm's.
func boot(t *testing.T, bin, series string, names []string, args ...string) *machine {
	t.Helper()
	var first, rest []string
	for _, name := range names {
		if slices.Contains(bare, name) {
			first = append(first, name)
		} else {
			rest = append(rest, name)
		}
	}
	check := fmt.Sprintf("lab check -o /out -seed %d ", *seed)
	script := "true"
	if len(first) > 0 {
		script += "; " + check + strings.Join(first, " ")
	}
	if len(rest) > 0 {
		script += "; lab up && " + check + strings.Join(rest, " ")
	}
	return run(t, bin, series, script, args...)
}

// run runs a script in a machine. The arguments are more of scripts/vm's.
func run(t *testing.T, bin, series, script string, args ...string) *machine {
	t.Helper()
	start := time.Now()
	m := &machine{series: series, out: t.TempDir()}
	args = append([]string{"run", "-k", series, "-t", fmt.Sprint(*limit), "-o", m.out,
		"-f", filepath.Join(bin, "lab"), "-f", filepath.Join(bin, "stackhop")}, args...)
	cmd := exec.Command(filepath.Join(root, "scripts/vm"), append(args, "--", "sh", "-c", script)...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.read(pipe)
	m.err = cmd.Wait()
	t.Logf("kernel %s: %d checks in %.0f s, seed %d", series, len(m.results), time.Since(start).Seconds(), *seed)
	return m
}

// read takes the results out of what the machine says.
func (m *machine) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if text, ok := strings.CutPrefix(line, "result "); ok {
			var one result
			if json.Unmarshal([]byte(text), &one) == nil {
				m.results = append(m.results, one)
				line = ""
			}
		}
		if line != "" {
			m.log = append(m.log, line)
		}
		if err != nil {
			return
		}
	}
}

// last is the end of what the machine said, and all of its console if that was shown.
func (m *machine) last() []string {
	from := max(0, len(m.log)-40)
	if i := slices.IndexFunc(m.log, func(line string) bool { return strings.Contains(line, "The console's end:") }); i >= 0 {
		from = min(from, i)
	}
	return m.log[from:]
}

// check is one check's test.
func (m *machine) check(t *testing.T, name string) {
	i := slices.IndexFunc(m.results, func(r result) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("did not come to its end (%v); the last that the machine said:\n%s", m.err, strings.Join(m.last(), "\n"))
	}
	r := m.results[i]
	t.Logf("%.1f s in the guest\n%s", r.Seconds, strings.Join(r.Facts, "\n"))
	if r.Error != "" {
		t.Error(r.Error)
	}
	switch name {
	case "hooks":
		got := m.left(t, name)
		compareHooks(t, got, golden(t, m.series, name, got))
	case "instructions":
		got := m.left(t, name)
		for _, d := range moreEffort(t, got, golden(t, m.series, name, got)) {
			t.Error(d)
		}
	case "recordings":
		m.exported(t)
	case "doctor":
		got, err := normaliseDoctor(m.left(t, name), m.series)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences(got, golden(t, m.series, name, got)) {
			t.Error(d)
		}
	}
}

// left is a file that a check left for this side.
func (m *machine) left(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.out, name))
	if err != nil {
		t.Fatalf("the guest did not leave its part: %v", err)
	}
	return string(data)
}

// golden is what a kernel series is known for: testdata/kernels/SERIES/NAME,
// which -update makes what was got.
func golden(t *testing.T, series, name, got string) string {
	t.Helper()
	path := filepath.Join(root, "testdata/kernels", series, name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text := got
		if name == "hooks" {
			old, _ := os.ReadFile(path) // none for a new series
			text = keepSometimes(got, states(string(old)))
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	return string(want)
}

// compareHooks holds which hooks fired against the list of this kernel series:
// a hook that falls silent, or vanishes, is noticed.
func compareHooks(t *testing.T, got, want string) {
	wanted := states(want)
	for name, state := range states(got) {
		// What fires by chance of timing may be silent, if the list says so.
		if w, ok := wanted[name]; !ok || w != state && w != "sometimes" {
			t.Errorf("hook %s %s, the list says %q", name, state, w)
		}
		delete(wanted, name)
	}
	for name := range wanted {
		t.Errorf("hook %s of the list is not in the table", name)
	}
}

// keepSometimes writes a list anew, but for what was found out to be a matter
// of timing: one run does not tell otherwise.
func keepSometimes(got string, old map[string]string) string {
	var out strings.Builder
	for line := range strings.Lines(got) {
		if f := strings.Fields(line); len(f) == 2 && old[f[0]] == "sometimes" {
			line = fmt.Sprintf("%-28s sometimes\n", f[0])
		}
		out.WriteString(line)
	}
	return out.String()
}

// states maps the hooks of a list to what they do.
func states(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && !strings.HasPrefix(line, "#") {
			out[f[0]] = f[1]
		}
	}
	return out
}
