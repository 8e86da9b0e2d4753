// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/tracer"
)

func TestHelp(t *testing.T) {
	for name, args := range map[string][]string{
		"help":            {"stackhop"},
		"help flag":       {"stackhop", "--help"},
		"help trace":      {"stackhop", "trace", "--help"},
		"help hooks":      {"stackhop", "hooks", "-h"},
		"help topology":   {"stackhop", "topology", "--help"},
		"help doctor":     {"stackhop", "doctor", "--help"},
		"help completion": {"stackhop", "completion", "--help"},
		"help version":    {"stackhop", "version", "--help"},
		"help explain":    {"stackhop", "explain", "--help"},
		"explain":         {"stackhop", "explain"},
		"explain reason":  {"stackhop", "explain", "no-destination"},
		"explain places":  {"stackhop", "explain", "not-forwarded"},
		"explain json":    {"stackhop", "explain", "ttl", "-o", "json"},
		"help record":     {"stackhop", "record", "--help"},
		"help replay":     {"stackhop", "replay", "--help"},
		"help report":     {"stackhop", "report", "--help"},
		"help export":     {"stackhop", "export", "--help"},
		"help redact":     {"stackhop", "redact", "-h"},
		"help kubectl":    {"/usr/local/bin/kubectl-stackhop", "trace", "--help"},
		"kubectl refusal": {"kubectl-stackhop", "trace"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.golden(t, run(w.sys, args), args)
		})
	}
}

// TestHelpOfCapabilities: the help text has all that are kept, and no other.
func TestHelpOfCapabilities(t *testing.T) {
	var want []string
	for _, c := range tracer.Kept {
		want = append(want, c.Name)
	}
	got := regexp.MustCompile(`CAP_[A-Z_]+`).FindAllString(traceHelp, -1)
	if i := slices.Index(got, "CAP_BPF"); i >= 0 && slices.Contains(got[i+1:], "CAP_BPF") { // what none keeps
		got = slices.Delete(got, i, i+1)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		w := newWorld(t)
		if status := w.run(arg); status != exitDone {
			t.Errorf("%s: status %d, %s", arg, status, w.stderr.String())
		}
		for _, want := range []string{"stackhop", "commit", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH} {
			if !strings.Contains(w.stdout.String(), want) {
				t.Errorf("%s: %q has no %s", arg, w.stdout.String(), want)
			}
		}
	}
}

func TestCompletionWords(t *testing.T) {
	const ask = "--generate-bash-completion"
	tests := []struct {
		name         string
		args         []string
		has, without string
	}{
		{"commands", []string{ask}, "trace\n", "--from"},
		{"flags", []string{"trace", "--", ask}, "", "--from"},
		{"reasons", []string{"explain", ask}, "no-destination\n", "--output"},
		{"flags of trace", []string{"trace", "-", ask}, "--from\n", "--shell"},
		{"new commands", []string{ask}, "record\nreplay\nreport\nexport\nredact\n", "--"},
		{"flags of record", []string{"record", "-w", "x", "-", ask}, "--write\n--force\n--max-bytes\n--ring\n--on-failure\n--snaplen\n--redact\n", "--since"},
		{"flags of replay", []string{"replay", "x.hop", "-", ask}, "--since\n--until\n", "--for\n"},
		{"flags of report", []string{"report", "-", ask}, "--output\n", "--all"},
		{"flags of export", []string{"export", "-", ask}, "--output\n--force\n", "--failed"},
		{"flags of redact", []string{"redact", "-", ask}, "--key\n--redact-ports\n", "--since"},
		{"flags of topology", []string{"topology", "-", ask}, "--names\n--only-node\n--output\n", "--all"},
		{"shells", []string{"completion", ask}, "bash\nzsh\nfish\n", "--from"},
		{"of a command of its own", []string{"trace", "--all", "--", "curl", ask}, "", "t"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if status := w.run(tt.args...); status != exitDone {
				t.Errorf("status %d, %s", status, w.stderr.String())
			}
			out := w.stdout.String()
			if !strings.Contains(out, tt.has) || strings.Contains(out, tt.without) {
				t.Errorf("words %q, want those with %q and without %q", out, tt.has, tt.without)
			}
			if w.tr.closed > 0 || w.config.All {
				t.Error("completing words began a trace")
			}
		})
	}
}

// TestKubectlCompletion: kubectl asks a program of its own for words.
func TestKubectlCompletion(t *testing.T) {
	for _, tt := range []struct {
		words []string
		has   string
	}{
		{[]string{""}, "trace\n"},
		{[]string{"tr"}, "trace\n"},
		{[]string{"trace", "--fr"}, "--from\n"},
		{[]string{"completion", ""}, "bash\n"},
		{nil, "trace\n"},
	} {
		w := newWorld(t)
		status := run(w.sys, append([]string{"/usr/local/bin/kubectl_complete-stackhop"}, tt.words...))
		if out := w.stdout.String(); status != exitDone || !strings.Contains(out, tt.has) || !strings.HasSuffix(out, "\n:0\n") {
			t.Errorf("%q: status %d, %q", tt.words, status, out)
		}
		if w.tr.closed > 0 {
			t.Error("completing words began a trace")
		}
	}
}

// TestCompletionScripts lets the shells that there are read their scripts.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range shells {
		w := newWorld(t)
		if status := w.run("completion", shell); status != exitDone || !strings.Contains(w.stdout.String(), "--generate-bash-completion") {
			t.Errorf("%s: status %d, %s%s", shell, status, w.stdout.String(), w.stderr.String())
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // the script is fixed text, checked where the shell is
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = &w.stdout
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not read its script: %v %s", shell, err, out)
		}
	}
}
