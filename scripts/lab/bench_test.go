// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what comes out:\n%s", path, got)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		list []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{8, 2, 4, 100}, 6}} {
		if got := median(tt.list); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.list, got, tt.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, tt := range []struct{ rate, before, after, want float64 }{
		{50, 100, 100, 0.5}, {90, 80, 120, 0.9}, {10, 0, 0, 0}, {10, 0, 10, 2},
	} {
		if got := ratio(tt.rate, tt.before, tt.after); got != tt.want {
			t.Errorf("ratio(%v, %v, %v) = %v, want %v", tt.rate, tt.before, tt.after, got, tt.want)
		}
	}
}

func TestScaled(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 9999.4: "9999", 10001: "10k", 28012: "28.01k", 1738e6: "1738M", 23.456e9: "23.46G", 5e13: "5e+04G"} {
		if got := scaled(v); got != want {
			t.Errorf("scaled(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestParseSummary(t *testing.T) {
	tests := []struct {
		name, text string
		want       benchCost
	}{
		{"nothing", "stackhop: 0 packets matched with 0 events, 0 delivered to user space, 0 lost\nstackhop: 0 traversals\n", benchCost{}},
		{"one", "1 packet matched with 1 event, 1 delivered to user space, 0 lost", benchCost{Packets: 1, Matched: 1, Events: 1}},
		{"lost", "warning: so far ring 5\nstackhop: 40074 packets matched with 361267 events, 230303 delivered to user space, LOST output 6, ring 130964",
			benchCost{Packets: 40074, Matched: 361267, Events: 230303, Lost: 130970}},
		{"shed", "3 packets matched with 9 events, 9 delivered to user space, 0 lost; 12 packets shed by --rate; the kernel left out 2 hook runs",
			benchCost{Packets: 3, Matched: 9, Events: 9, Shed: 12, NotRun: 2}},
		{"all", "3 packets matched with 9 events, 8 delivered to user space, LOST ring 1; 1 packet shed by --rate; the kernel left out 1 hook run",
			benchCost{Packets: 3, Matched: 9, Events: 8, Lost: 1, Shed: 1, NotRun: 1}},
		{"asked before", "stackhop: so far 1 packet matched with 4 events, 2 delivered to user space, LOST ring 2\nstackhop: 0 traversals\n" +
			"stackhop: 2 packets matched with 8 events, 8 delivered to user space, 0 lost\nstackhop: recorded 7 events in 2.0 KiB: x",
			benchCost{Packets: 2, Matched: 8, Events: 8, Recorded: 7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got benchCost
			if err := got.parseSummary(tt.text); err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	if err := new(benchCost).parseSummary("stackhop: no BTF"); err == nil {
		t.Error("a text without a summary is no error")
	}
}

func TestBpftraceProbes(t *testing.T) {
	list := `{"name":"netif_receive_skb","function":"netif_receive_skb","how":"tp_btf"}
{"name":"tc_ingress","function":"ingress","how":"tc"}
{"name":"skb_clone","function":"skb_clone","how":"fexit"}
{"name":"ip_rcv_core","function":"ip_rcv_core","how":"fentry"}
{"name":"ip_rcv_core again","function":"ip_rcv_core","how":"fentry"}
{"name":"ip_vs_in","function":"ip_vs_in","how":"kprobe"}
{"name":"br_nf_forward_ip","function":"br_nf_forward_ip","how":"absent"}`
	for _, tt := range []struct {
		tracepoints, kfunc bool
		want               []string
	}{
		{false, true, []string{"kfunc:ip_rcv_core", "kprobe:ip_vs_in", "kretfunc:skb_clone", "tracepoint:*:netif_receive_skb"}},
		{false, false, []string{"kprobe:ip_rcv_core", "kprobe:ip_vs_in", "kretprobe:skb_clone", "tracepoint:*:netif_receive_skb"}},
		{true, true, []string{"tracepoint:*:netif_receive_skb"}},
	} {
		got, without, err := bpftraceProbes([]byte(list), tt.tracepoints, tt.kfunc)
		if err != nil || without != 1 || !slices.Equal(got, tt.want) {
			t.Errorf("tracepoints %v, kfunc %v: %v, %d without, %v; want %v", tt.tracepoints, tt.kfunc, got, without, err, tt.want)
		}
	}
	if _, _, err := bpftraceProbes([]byte("{"), false, true); err == nil {
		t.Error("half a list is no error")
	}
}

func TestBareHooks(t *testing.T) {
	const list = `{"name":"netif_receive_skb","function":"netif_receive_skb","how":"tp_btf"}
{"name":"tc_ingress","function":"ingress","how":"tc"}
{"name":"skb_clone","function":"skb_clone","how":"fexit"}
{"name":"ip_vs_in","function":"ip_vs_in","how":"kprobe"}
{"name":"br_nf_forward_ip","function":"br_nf_forward_ip","how":"absent"}`
	for tracepoints, want := range map[bool]int{false: 3, true: 1} {
		if got, err := bareHooks([]byte(list), tracepoints); err != nil || len(got) != want || got[0].Function != "netif_receive_skb" {
			t.Errorf("tracepoints %t: %v, %v", tracepoints, got, err)
		}
	}
	for _, bad := range []string{"{", `{"name":"a","function":"b","how":"magic"}`} {
		if _, err := bareHooks([]byte(bad), false); err == nil {
			t.Errorf("%s is no error", bad)
		}
	}
}

func TestProbeKinds(t *testing.T) {
	if got, want := probeKinds([]string{"kprobe:a", "kfunc:b", "kfunc:m:c", "tracepoint:*:d"}), "2 kfunc, 1 kprobe, 1 tracepoint"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNamed(t *testing.T) {
	list := []string{"nothing selected", "everything selected", "record"}
	self := func(s string) string { return s }
	for words, want := range map[string][]string{"": list, "record,nothing": {"record", "nothing selected"}} {
		if got, err := named(list, words, self); err != nil || !slices.Equal(got, want) {
			t.Errorf("named(%q) = %v, %v; want %v", words, got, err, want)
		}
	}
	if _, err := named(list, "record,nobody", self); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("an unknown name: %v", err)
	}
}

// sampleBench has two loads, three ways and two rounds.
func sampleBench() *bench {
	b := &bench{Kernel: "6.12.57", Site: "cluster", rounds: 2, lasts: 3 * time.Second, loads: []benchLoad{keptLoad, {name: loadBulk, unit: "bytes/s"}},
		ways: []benchWay{{name: "nothing selected", own: true}, {name: "peer", note: "sleep 9"}},
		left: []string{"bpftrace: left out, it is not installed here"}}
	for i, l := range b.loads {
		for round := range 2 {
			base := []float64{1000, 2.5e9}[i] * float64(round+9) / 10
			add := func(way string, rate float64, cost *benchCost) {
				f := benchFigure{Kernel: b.Kernel, Site: b.Site, Load: l.name, Unit: l.unit, Way: way, Round: round + 1, Rate: rate, Cost: cost, Run: cost}
				if cost != nil {
					f.Ratio = ratio(rate, base, base)
				}
				b.runs = append(b.runs, f)
			}
			add(untraced, base, nil)
			add("nothing selected", base*.95, &benchCost{Attach: .4, Detach: .1, Gone: 3.5, User: .2, System: .1, Lag: .17, PeakRSS: 50 << 10, File: 3000, Recorded: 1000})
			add(untraced, base, nil)
			add("peer", base*.4, &benchCost{Attach: 5, Detach: .01, Gone: .02, User: 1.25, PeakRSS: 2 << 20, Events: 123456, Lost: 7, Shed: 9})
			add(untraced, base, nil)
		}
	}
	return b
}

func TestBenchTable(t *testing.T) {
	b := sampleBench()
	golden(t, "bench.txt", b.table())
	if err := b.check(); err != nil {
		t.Error(err)
	}
	b.runs[1].Run.Packets = 1
	if err := b.check(); err == nil {
		t.Error("a packet that nothing selected is no error")
	}
}

func TestBenchLines(t *testing.T) {
	b := sampleBench()
	dec := json.NewDecoder(bytes.NewReader(b.lines()))
	dec.DisallowUnknownFields()
	for i, want := range b.runs {
		var got benchFigure
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if (got.Cost == nil) != (want.Cost == nil) || got.Cost != nil && *got.Cost != *want.Cost {
			t.Errorf("line %d: cost %+v, want %+v", i+1, got.Cost, want.Cost)
		}
		if (got.Run == nil) != (want.Run == nil) || got.Run != nil && *got.Run != *want.Run {
			t.Errorf("line %d: run %+v, want %+v", i+1, got.Run, want.Run)
		}
		got.Cost, want.Cost, got.Run, want.Run = nil, nil, nil, nil
		if got != want {
			t.Errorf("line %d: %+v, want %+v", i+1, got, want)
		}
	}
}

func TestEnds(t *testing.T) {
	var e ends
	e.Write([]byte("first"))
	for range 100 {
		e.Write(bytes.Repeat([]byte("."), 1000))
	}
	e.Write([]byte("last"))
	got := e.String()
	if !strings.HasPrefix(got, "first.") || !strings.HasSuffix(got, ".last") || len(got) != 2*endSize {
		t.Errorf("%d bytes, %.8q … %q", len(got), got, got[len(got)-8:])
	}
}

// TestBenchProcessEnds: a tracer that ends by itself says why.
func TestBenchProcessEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the kernel's BPF programs need root: run make test as root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, err := benchWay{name: "peer", own: true, argv: []string{"sh", "-c", "echo no BTF here >&2; exit 3"}}.start()
	// Its words may be part of its complaint.
	_, cerr := benchWay{name: "bpftrace", ready: bpftraceReady, argv: []string{"sh", "-c", "echo 'error: printf(\"ready\")'; echo ready >&2; exit 1"}}.start()
	if cerr == nil {
		t.Error("a complaint was taken for being ready")
	}
	for _, want := range []string{"peer did not get ready", "no BTF here", "exit status 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// TestBenchPeer runs each kind of traffic through a pair beside a peer that says
// at once that it is ready, and ends on SIGINT with a count.
func TestBenchPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run make test as root")
	}
	// The peer ends with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	peer := peerWay(`trap 'echo "@: 42"; exit 0' INT; echo here; while :; do sleep 0.1; done`)
	err := withPair(func(p pairInfo) error {
		for _, l := range benchLoads {
			result, cost, err := peer.aroundOne(l, pairSite(p), 200*time.Millisecond)
			if err != nil {
				return err
			}
			if result.rate <= 0 || result.errors != 0 || cost.Events != 42 || cost.Attach >= peerSilence.Seconds() || cost.PeakRSS == 0 {
				t.Errorf("%s: %+v, %+v", l.name, result, cost)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBenchAsks: a way of ours is attached once for all loads, and asked what it saw of each.
func TestBenchAsks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run make test as root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir := t.TempDir()
	// Each answer but that to a repeated question tells of more.
	tool := benchWay{name: "tool", own: true, argv: []string{"sh", "-c", `n=0
		trap 'n=$((n + 1)); e=$((n / 2 * 100)); echo "stackhop: so far $e packets matched with $e events, $e delivered to user space, 0 lost" >&2' USR1
		trap 'echo "stackhop: 999 packets matched with 999 events, 999 delivered to user space, 0 lost" >&2; exit 0' INT
		echo x >>` + dir + `/started; echo >{ready}; while :; do sleep 0.01; done`}}
	err := withPair(func(p pairInfo) error {
		list, err := tool.around(benchLoads[1:3], pairSite(p), 50*time.Millisecond)
		if err != nil {
			return err
		}
		for i, d := range list {
			// Before it: 0 (asked once) and 200 (4 times); after it 100 (2, 3) and, as it still grew, 300 (5, 6, 7).
			if want := uint64(100); d.rate <= 0 || d.cost.Events != want || d.run.Attach == 0 || d.run.Events != 999 || d.cost.PeakRSS == 0 {
				t.Errorf("%s: %+v, want %d events", benchLoads[i+1].name, d, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "started")); err != nil || string(text) != "x\n" {
		t.Errorf("started %q, %v", text, err)
	}
}

func TestEventsLost(t *testing.T) {
	for line, want := range map[string]bool{
		"9 packets matched with 80 events, 80 delivered to user space, 0 lost":                           false,
		"9 packets matched with 80 events, 80 delivered to user space, LOST shed 116":                    false,
		"9 packets matched with 80 events, 79 delivered to user space, LOST ring 1, shed 116":            true,
		"9 packets matched with 80 events, 80 delivered to user space, LOST packet-table 2":              true,
		"9 packets matched with 80 events, 80 delivered to user space, LOST shed 2, evicted 1; and more": true,
	} {
		if got := eventsLost(line); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}
