// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTargets: what is met, missed and not measured, each by its own figure.
func TestTargets(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "growth"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"bench.json": `{"kernel":"6.12.1","site":"cluster","load":"request-response","way":"untraced","rate":100}
{"kernel":"6.12.1","site":"cluster","load":"request-response","way":"nothing selected","ratio":0.70,"cost":{},"run":{"attach_s":3}}
{"kernel":"6.12.1","site":"cluster","load":"request-response","way":"nothing selected","ratio":0.80,"cost":{},"run":{"attach_s":3}}
{"kernel":"7.3","site":"cluster","load":"request-response","way":"nothing selected","ratio":0.96,"cost":{},"run":{"attach_s":3}}
{"kernel":"6.18","site":"pair","load":"request-response","way":"nothing selected","ratio":0.985,"cost":{},"run":{"attach_s":0.2}}
{"kernel":"6.18","site":"pair","load":"calm","way":"nothing selected","ratio":1,"cost":{},"run":{"attach_s":0.29,"detach_s":0.1}}
{"kernel":"6.18","site":"pair","load":"request-response","way":"hooks that return at once","ratio":0.993,"cost":{},"run":{}}
{"kernel":"6.12.1","site":"cluster","load":"calm","way":"everything selected","ratio":1,"cost":{"packets":9},"run":{}}
{"kernel":"6.18","site":"pair","load":"calm","way":"everything selected","ratio":1,"cost":{"packets":9,"line_p99_s":0.3},"run":{}}
{"kernel":"6.18","site":"pair","load":"request-response","way":"record everything","ratio":1,"cost":{},"run":{"events":900,"file_events":1000,"file_bytes":8100}}
`,
		"growth/devices.json": `{"title":"T","note":"Linux 6.18.44, two pods","x_label":"x","y_label":"y"}
{"series":"attach","x":1000,"y":2.4}
{"series":"attach","x":1,"y":0.2}
{"series":"new device covered","x":1000,"y":0.0123}
{"series":"of that, the least","x":1000,"y":0.01}
`,
		"bench-go.txt": `goos: linux
pkg: github.com/stackhop/stackhop/tracer
cpu: Some Processor
BenchmarkStitch/selected=true/flows=1-2      	 100	 600 ns/op	 500 cpu-ns/op	 10 B/op	 0 allocs/op
BenchmarkStitch/selected=true/flows=1-2      	 100	 600 ns/op	 520 cpu-ns/op	 10 B/op	 0 allocs/op
BenchmarkStitch/selected=true/flows=1000000-2	 100	 600 ns/op	 714 cpu-ns/op	 10 B/op	 0 allocs/op
BenchmarkStitch/selected=false/flows=1-2	 100	 600 ns/op	 100 cpu-ns/op	 10 B/op	 0 allocs/op
BenchmarkStitch/selected=false/flows=1000000-2	 100	 600 ns/op	 130 cpu-ns/op	 10 B/op	 0 allocs/op
pkg: github.com/stackhop/stackhop/events
BenchmarkRemembered/all/flows=1-2	 100	 100 ns/op
BenchmarkRemembered/all/flows=1000000-2	 100	 340 ns/op
pkg: github.com/stackhop/stackhop/cmd/stackhop
BenchmarkReport-2	 1	 1500000000 ns/op
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := readFigures(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := targetTable(f)
	for _, want := range []string{
		"| request rate, nothing selected, all hooks | at least 95 % | 75 % | – | 6.12.1, cluster, median of 2 | **no** |",
		"| request rate, nothing selected, all hooks | at least 95 % | 96 % | – | 7.3, cluster, median of 1 | yes |",
		"| request rate, nothing selected, tracepoints | at least 98 % | 98.5 % | 99.3 % | 6.18, pair, median of 1 | yes |",
		"| request rate, everything selected, all hooks | at least 70 % | – | – | not measured | – |",
		"| attaching, tracepoints | at most 0.3 s | 0.29 s | – | 6.18, pair, median of 1 | yes |",
		"| ready with 1,000 veth pairs, tracepoints | at most 2 s | 2.4 s | – | 6.18.44, pair | **no** |",
		"| a new veth is covered by tc, 1,000 pairs beside it | at most 0.1 s | 0.01 s | 0.01 s | 6.18.44, pair | yes |",
		"selected | at most 115 % | 140 % | 102 % | Some Processor, 714 ns of 510 | **no** |",
		"not selected | at most 115 % | 130 % | 110 % | Some Processor, 130 ns of 100 | **no** |",
		"| a recording | at most 12 bytes/event | 8.1 bytes/event | – | 6.18, pair, median of 1 | yes |",
		"| a report of 100,000 traversals | at most 2 s | 1.5 s | – | Some Processor, median of 1 (1.5 to 1.5) | yes |",
		"99 of 100, all hooks | at most 0.2 s | – | – | not measured | – |",
		"99 of 100, tracepoints | at most 0.2 s | 0.3 s | – | 6.18, pair, median of 1 | **no** |",
		"6 figures are within their bounds, 5 are not,",
		"Why not:\n\n- request rate, nothing selected, all hooks: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("without %q", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	for words, want := range map[string]string{
		"a recording;attaching, trace": "",
		"a recording;nonsense":         `no target begins with "nonsense"`,
		"detaching":                    "detaching, all hooks: not measured",
		"a recording;request rate":     "request rate, nothing selected, all hooks: 75 % on 6.12.1, cluster, median of 2",
	} {
		text := ""
		if err := mustMeet(f, strings.Split(words, ";")); err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("must meet %q: %q, want %q", words, text, want)
		}
	}
	if _, err := readFigures(t.TempDir()); !errors.Is(err, errNoFigures) {
		t.Errorf("an empty folder: %v", err)
	}
}
