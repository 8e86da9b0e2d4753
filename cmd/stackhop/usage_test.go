// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/tracer"
)

// TestUsageErrors are all messages about a wrong command line. NAMES stands for
// a names file, NEW for one that is not there.
func TestUsageErrors(t *testing.T) {
	for name, args := range map[string][]string{
		"no selection":          {"trace"},
		"no selection but rest": {"trace", "-o", "json", "--for", "3s"},
		"all and selection":     {"trace", "--all", "tcp"},
		"unknown command":       {"trac"},
		"unknown flag":          {"trace", "--form", "10.0.0.1"},
		"flag without value":    {"trace", "--from"},
		"flag of wrong type":    {"trace", "--for", "soon", "tcp"},
		"output":                {"trace", "-o", "jsno", "tcp"},
		"hook set":              {"trace", "--hooks", "some", "tcp"},
		"keep caps":             {"trace", "--keep-caps", "some", "tcp"},
		"for nothing":           {"trace", "--for", "0s", "tcp"},
		"count nothing":         {"trace", "--count", "0", "tcp"},
		"sample nothing":        {"trace", "--sample", "1/0", "tcp"},
		"sample percent":        {"trace", "--sample", "1%", "tcp"},
		"rate nothing":          {"trace", "--rate", "0", "tcp"},
		"rate too high":         {"trace", "--rate", "5000000000", "tcp"},
		"no command":            {"trace", "tcp", "--"},
		"command not found":     {"trace", "tcp", "--", "stackhop-has-no-such-command"},
		"command for version":   {"version", "--", "true"},
		"argument for doctor":   {"doctor", "now"},
		"explain unknown":       {"explain", "no-destinaton"},
		"explain two":           {"explain", "ttl", "too-big"},
		"explain unprinted":     {"record", "-w", "NEW", "--explain", "tcp"},
		"shell":                 {"completion", "bsh"},
		"hooks for":             {"hooks", "--for", "3s"},
		"expression":            {"trace", "tcp", "prot", "80"},
		"expression cut":        {"trace", "host 10.0.0.1 and ("},
		"expression behind":     {"trace", "tcp", "-o", "json", "poort", "80"},
		"expression escape":     {"trace", "host \x1b[31m"},
		"target":                {"trace", "--from", "nginx"},
		"target escape":         {"trace", "--from", "\x1b[31mnginx"},
		"target port":           {"trace", "--to", ":70000"},
		"target port zero":      {"trace", "--to", "10.0.0.1:0"},
		"target zone":           {"trace", "--to", "fe80::1%eth0"},
		"target pod empty":      {"trace", "--to", "pod/"},
		"target no names":       {"trace", "--to", "pod/centos"},
		"target unknown pod":    {"trace", "--names", "NAMES", "--from", "pod/centso"},
		"target other ns":       {"trace", "--names", "NAMES", "--from", "pod/nginx"},
		"target unknown svc":    {"trace", "--names", "NAMES", "--to", "svc/default/nginx:80"},
		"target svc port":       {"trace", "--names", "NAMES", "--to", "svc/nginx1:http"},
		"target unknown node":   {"trace", "--names", "NAMES", "--with", "node/n9"},
		"target netns":          {"trace", "--with", "netns/cento"},
		"target netns empty":    {"trace", "--with", "netns/empty"},
		"namespace":             {"trace", "--names", "NAMES", "-n", "wbe"},
		"namespace no names":    {"trace", "-n", "web"},
		"names not there":       {"trace", "--names", "not-there.json", "tcp"},
		"names directory":       {"trace", "--names", ".", "tcp"},
		"names wrong":           {"trace", "--names", "WRONG", "tcp"},
		"only node":             {"trace", "--only-node", "n1", "tcp"},
		"only node unknown":     {"trace", "--names", "NAMES", "--only-node", "n3", "tcp"},
		"ready file":            {"trace", "--ready-file", "NAMES/ready", "tcp"},
		"record nowhere":        {"record", "tcp"},
		"record nothing":        {"record", "-w", "NEW"},
		"record exists":         {"record", "-w", "NAMES", "tcp"},
		"record no directory":   {"record", "-w", "NAMES/x.hop", "tcp"},
		"record max":            {"record", "-w", "NEW", "--max-bytes", "64m", "tcp"},
		"record max nothing":    {"record", "-w", "NEW", "--max-bytes", "0", "tcp"},
		"record max too much":   {"record", "-w", "NEW", "--max-bytes", "9999999999G", "tcp"},
		"record ring":           {"record", "-w", "NEW", "--ring", "10", "tcp"},
		"record ring many":      {"record", "-w", "NEW", "--ring", "10000x1M", "tcp"},
		"record ring none":      {"record", "-w", "NEW", "--ring", "0x1M", "tcp"},
		"record ring size":      {"record", "-w", "NEW", "--ring", "3×big", "tcp"},
		"record ring stream":    {"record", "-w", "-", "--ring", "10x1M", "tcp"},
		"record around":         {"record", "-w", "NEW", "--on-failure=x", "tcp"},
		"record around nothing": {"record", "-w", "NEW", "--on-failure=0s", "tcp"},
		"record around apart":   {"record", "-w", "NEW", "tcp", "--on-failure", "30s"},
		"record snaplen":        {"record", "-w", "NEW", "--snaplen", "70000", "tcp"},
		"record snaplen word":   {"record", "-w", "NEW", "--snaplen", "all", "tcp"},
		"record ports alone":    {"record", "-w", "NEW", "--redact-ports", "tcp"},
		"record redact payload": {"record", "-w", "NEW", "--snaplen", "200", "--redact", "tcp"},
		"record failed":         {"record", "-w", "NEW", "--failed", "tcp"},
		"record print stream":   {"record", "-w", "-", "--print", "tcp"},
		"record output":         {"record", "-w", "NEW", "--print", "-o", "summary", "tcp"},
		"record flag":           {"record", "-w", "NEW", "--max-byte", "1M", "tcp"},
		"replay nothing given":  {"replay"},
		"replay flag":           {"replay", "--sinc", "+1s", "NAMES"},
		"replay live flag":      {"replay", "--for", "1s", "NAMES"},
		"replay output":         {"replay", "-o", "sumary", "NAMES"},
		"replay command":        {"replay", "NAMES", "--", "true"},
		"replay dashes":         {"replay", "NAMES", "--"},
		"report nothing given":  {"report", "-o", "NEW"},
		"report command":        {"report", "NAMES", "-o", "NEW", "--", "true"},
		"report flag":           {"report", "NAMES", "--titel", "x"},
		"export nothing given":  {"export", "-o", "NEW"},
		"redact nothing given":  {"redact", "-o", "NEW"},
		"redact two":            {"redact", "NAMES", "NAMES", "-o", "NEW"},
		"redact command":        {"redact", "NAMES", "-o", "NEW", "--", "true"},
		"redact flag":           {"redact", "NAMES", "-o", "NEW", "--redact-port"},
		"topology output":       {"topology", "-o", "png"},
		"topology argument":     {"topology", "n1"},
		"topology node":         {"topology", "--only-node", "n1"},
		"unknown record":        {"recrod", "-w", "NEW"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			words := slices.Clone(args)
			for i, a := range words {
				if strings.HasPrefix(a, "NAMES") {
					words[i] = filepath.Join(namesFile(t, someNames), strings.TrimPrefix(a, "NAMES"))
				}
				if a == "NEW" {
					words[i] = filepath.Join(t.TempDir(), "new.hop")
				}
				if a == "WRONG" {
					words[i] = namesFile(t, "{\"netns\": [\n {\"nmae\": \"n1\"}]}")
				}
			}
			status := w.run(words...)
			if status != exitError || w.stdout.Len() > 0 {
				t.Errorf("status %d, stdout %q", status, w.stdout.String())
			}
			if w.config.All || w.config.Select != nil {
				t.Error("a tracer was made")
			}
			for _, word := range words {
				if _, err := os.Lstat(word); err == nil && strings.HasSuffix(word, "new.hop") {
					t.Error("a file was made")
				}
			}
			for _, r := range w.stderr.String() {
				if r < ' ' && r != '\n' {
					t.Errorf("%U in the message", r)
				}
			}
			w.golden(t, status, args)
		})
	}
}

func TestTracerError(t *testing.T) {
	w := newWorld(t)
	w.sys.newTracer = func(tracer.Config) (liveTracer, error) {
		return nil, errors.New("CAP_BPF is missing\n  run as root")
	}
	for _, args := range [][]string{{"trace", "--all"}, {"hooks", "--count"}} {
		w.stderr.Reset()
		if status := w.run(args...); status != exitError {
			t.Errorf("%v: status %d", args, status)
		}
		if got := w.stderr.String(); got != "stackhop: CAP_BPF is missing\n  run as root\n" {
			t.Errorf("%v: %q", args, got)
		}
	}
}

// TestSelection shows what flags select, in the language of expressions.
func TestSelection(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"tcp", "port", "80"}, "tcp port 80"},
		{[]string{"--with", "10.0.0.1"}, "src host 10.0.0.1 or dst host 10.0.0.1"},
		{[]string{"--with", "10.0.0.0/8"}, "src net 10.0.0.0/8 or dst net 10.0.0.0/8"},
		{[]string{"--with", "10.0.0.7/8"}, "src net 10.0.0.0/8 or dst net 10.0.0.0/8"},
		{[]string{"--with", "::ffff:10.0.0.1"}, "src host 10.0.0.1 or dst host 10.0.0.1"},
		{[]string{"--to", ":80"}, "src port 80 or dst port 80"},
		{[]string{"--to", "[2001:db8::1]:80"}, "(src host 2001:db8::1 and src port 80) or (dst host 2001:db8::1 and dst port 80)"},
		{[]string{"--to", "2001:db8::1"}, "src host 2001:db8::1 or dst host 2001:db8::1"},
		{[]string{"--from", "10.0.0.1", "--to", "10.0.0.2"}, "(src host 10.0.0.1 and dst host 10.0.0.2) or (src host 10.0.0.2 and dst host 10.0.0.1)"},
		{[]string{"--with", "10.0.0.1", "--with", "10.0.0.2"}, "src host 10.0.0.1 or src host 10.0.0.2 or dst host 10.0.0.1 or dst host 10.0.0.2"},
		{[]string{"--with", "10.0.0.1,10.0.0.2"}, "src host 10.0.0.1 or src host 10.0.0.2 or dst host 10.0.0.1 or dst host 10.0.0.2"},
		{[]string{"--with", "10.0.0.1", "tcp"}, "(src host 10.0.0.1 or dst host 10.0.0.1) and tcp"},
		{[]string{"tcp", "--with", "10.0.0.1"}, "(src host 10.0.0.1 or dst host 10.0.0.1) and tcp"},
		{[]string{"--with", "netns/4026532544"}, "src host 172.23.96.23 or src host 2001:db8::23 or dst host 172.23.96.23 or dst host 2001:db8::23"},
		{[]string{"--from", "netns/centos", "--to", ":53"}, "((src host 172.23.96.23 or src host 2001:db8::23) and dst port 53) or (src port 53 and (dst host 172.23.96.23 or dst host 2001:db8::23))"},
		{[]string{"--names", "NAMES", "--with", "svc/nginx1:80"}, "(src host 192.168.13.23 and src port 80) or (dst host 192.168.13.23 and dst port 80)"},
		{[]string{"--names", "NAMES", "--with", "service/default/nginx1"}, "src host 192.168.13.23 or dst host 192.168.13.23"},
		{[]string{"--names", "NAMES", "-n", "web", "--with", "pod/nginx"}, "src host 172.23.96.163 or dst host 172.23.96.163"},
		{[]string{"--names", "NAMES", "--with", "node/n1"}, "src host 10.0.0.180 or dst host 10.0.0.180"},
		{[]string{"--names", "NAMES", "-n", "web"}, "src host 172.23.96.163 or dst host 172.23.96.163"},
		{[]string{"--names", "NAMES", "-n", "web", "--to", "10.0.0.1"}, "(src host 10.0.0.1 or dst host 10.0.0.1) and (src host 172.23.96.163 or dst host 172.23.96.163)"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			w := newWorld(t)
			args := slices.Clone(tt.args)
			for i, a := range args {
				if a == "NAMES" {
					args[i] = namesFile(t, someNames)
				}
			}
			if status := w.run(append([]string{"trace", "--count", "1"}, args...)...); status != exitDone {
				t.Fatalf("status %d, %s", status, w.stderr.String())
			}
			if got := fmt.Sprint(w.config.Select); got != tt.want {
				t.Errorf("selects %q, want %q", got, tt.want)
			}
		})
	}
}
