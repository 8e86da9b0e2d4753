// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
	"github.com/stackhop/stackhop/tracer"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/cli")

// toolEnv makes this binary the tool.
const toolEnv = "STACKHOP_TEST_TOOL"

// TestMain gives all outputs one time zone. It lets the test binary play the processes
// that tests start.
func TestMain(m *testing.M) {
	if tracer.IsCleaner() {
		os.Exit(tracer.RunCleaner())
	}
	if isLauncher() {
		os.Exit(runLauncher())
	}
	if os.Getenv(toolEnv) != "" {
		os.Exit(run(newSystem(), os.Args))
	}
	time.Local = time.UTC
	os.Exit(m.Run())
}

const tick = 50 * time.Millisecond

// fakeTracer plays a capture, then lets time pass until it is told to stop.
type fakeTracer struct {
	capture      *events.Capture
	hasFunctions bool
	stats        tracer.Stats
	hooks        []tracer.HookStatus
	runErr       error
	// paced plays each event at its time, not all of them at once.
	paced bool
	// devices, by namespace
	devices map[uint32][]uint32
	// afterTick is called behind each tick, which is numbered.
	afterTick func(n int)
	// updateSets is called for UpdateSets; nil: nobody wants to know.
	updateSets func()
	updateErr  error
	dropErr    error         // of DropPrivilege
	dropped    int           // how often it was called
	now        atomic.Uint64 // of the last tick, in ns
	closed     int
}

var _ liveTracer = (*fakeTracer)(nil)

func (f *fakeTracer) Run(ctx context.Context, sink tracer.Sink) error {
	now := uint64(time.Millisecond)
	if f.paced {
		now = f.capture.Events[0].Time - uint64(2*tick)
	}
	rest := f.capture.Events
	for n := 1; ; n++ {
		now += uint64(tick)                                                           // before the events are read, as the tracer does it
		for len(rest) > 0 && (f.paced && rest[0].Time <= now || !f.paced && n == 2) { // after everything is ready
			e := rest[0]
			sink.Event(&e)
			rest = rest[1:]
		}
		f.now.Store(now)
		sink.Tick(now, now)
		if f.afterTick != nil {
			f.afterTick(n)
		}
		if ctx.Err() != nil {
			return f.runErr
		}
		runtime.Gosched() // a COMMAND may have something to do
	}
}
func (f *fakeTracer) Table() []events.Hook       { return f.capture.Hooks }
func (f *fakeTracer) Names() events.Names        { return f.capture.Names }
func (f *fakeTracer) Wall(mono uint64) time.Time { return time.Unix(1767366245, int64(mono)) }
func (f *fakeTracer) HasFunctions() bool         { return f.hasFunctions }
func (f *fakeTracer) Stats() tracer.Stats        { return f.stats }
func (f *fakeTracer) Missed() (lost, unfollowed uint64) {
	return f.stats.Lost["ring"], f.stats.Lost["packet-table"] + f.stats.Lost["shed"]
}
func (f *fakeTracer) Attached() []tracer.HookStatus { return f.hooks }
func (f *fakeTracer) Clock() tracer.ClockPair       { return tracer.ClockPair{Real: f.Wall(0).UnixNano()} }
func (f *fakeTracer) Now() tracer.ClockPair {
	now := f.now.Load()
	return tracer.ClockPair{Mono: now, Real: f.Wall(now).UnixNano()}
}
func (f *fakeTracer) Devices() map[uint32][]uint32 { return f.devices }
func (f *fakeTracer) Facts(tracer.FactsFilter) tracer.Facts {
	return tracer.Facts{Sysctls: []tracer.Sysctl{{Netns: 4026532345, Name: "net.ipv4.ip_forward", Value: "1"}}}
}
func (f *fakeTracer) UpdateSets() error {
	if f.updateSets != nil {
		f.updateSets()
	}
	return f.updateErr
}
func (f *fakeTracer) DropPrivilege() error {
	f.dropped++
	return f.dropErr
}
func (f *fakeTracer) Close() error { f.closed++; return nil }

// world is a system for tests.
type world struct {
	sys            *system
	tr             *fakeTracer
	config         tracer.Config // what the tracer was made with
	missing        []error       // what a topology lacks
	stdout, stderr bytes.Buffer
	signals, asks  chan os.Signal
	exited         chan int
}

// scripted is the capture of case 6, case 7, and the answer to case 7.
const scripted = "script-case6-and-7"

func readCapture(t testing.TB, name string) *events.Capture {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "events", "testdata", "captures", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := events.ReadCapture(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOf(t, readCapture(t, scripted))
}

// newWorldOf is a world in which a capture happens.
func newWorldOf(t testing.TB, c *events.Capture) *world {
	t.Helper()
	w := &world{signals: make(chan os.Signal, 2), asks: make(chan os.Signal, 1), exited: make(chan int, 1)}
	w.tr = &fakeTracer{
		capture: c, hasFunctions: true, hooks: someHooks(),
		stats: tracer.Stats{Matched: uint64(len(c.Events)), Delivered: uint64(len(c.Events)), Packets: 3, Lost: map[string]uint64{"ring": 0}},
	}
	w.sys = &system{
		stdin: strings.NewReader(""), stdout: &w.stdout, stderr: &w.stderr,
		getenv:   func(string) string { return "" },
		hostname: func() (string, error) { return "host", nil }, kernelRelease: func() string { return "6.12.0-test" },
		bootID: func() (string, error) { return "5ca1ab1e-0000-4000-8000-000000000001", nil },
		own:    func(*os.File) error { return nil }, ownConnections: func() []events.Tuple { return nil },
		gives: func() bool { return false }, foreign: func(string) (bool, bool) { return false, false },
		signals: func() (<-chan os.Signal, func()) { return w.signals, func() {} },
		asks:    func() (<-chan os.Signal, func()) { return w.asks, func() {} },
		exit:    func(code int) { w.exited <- code },
		newTracer: func(cfg tracer.Config) (liveTracer, error) {
			w.config = cfg
			return w.tr, nil
		},
		newCluster:   func(clusterOptions) (cluster, error) { return nil, nil },
		probe:        func() (*tracer.Kernel, error) { return someKernel(), nil },
		hookTable:    func() ([]tracer.HookStatus, error) { return someHooks(), nil },
		readTopology: func(file []byte) (*topology.Topology, []error, error) { return someTopology(file), w.missing, nil },
		netnsAddrs: func(name string) ([]netip.Addr, error) {
			switch name {
			case "centos", "4026532544":
				return []netip.Addr{netip.MustParseAddr("172.23.96.23"), netip.MustParseAddr("2001:db8::23")}, nil
			case "empty":
				return nil, nil
			}
			return nil, errors.New("no such namespace in /run/netns")
		},
		netnsNames: func() []string { return []string{"centos", "nginx", "n1"} },
	}
	return w
}

func someHooks() []tracer.HookStatus {
	return []tracer.HookStatus{
		{Name: "netif_receive_skb", Station: "receive", Function: "netif_receive_skb", How: "tp_btf", Required: true, Means: "the packet came in from a device", Hits: 1234},
		{Name: "ip_vs_leave", Station: "ipvs-leave", Function: "ip_vs_leave", How: "fentry", Means: "the virtual service has no destination"},
		{Name: "br_nf_forward_ip", Station: "bridge-nf", Function: "br_nf_forward_ip", How: "absent", Kernels: "up to 6.1", Means: "netfilter is called from the bridge", Err: "no such function"},
	}
}

func someKernel() *tracer.Kernel {
	return &tracer.Kernel{
		Release: "6.12.0", Arch: "amd64", CanTracepoints: true,
		Checks: []tracer.Check{
			{Name: "BTF", Status: "ok"},
			{Name: "function hooks", Status: "missing", Detail: "kernel lockdown: integrity", WayOut: "use --hooks tracepoints"},
			{Name: "IPVS", Status: "degraded", Detail: "its module is not loaded"},
		},
	}
}

// run runs the program with arguments.
func (w *world) run(args ...string) int { return run(w.sys, append([]string{"stackhop"}, args...)) }

// golden compares everything that a run showed with a file.
func (w *world) golden(t *testing.T, status int, args []string) {
	t.Helper()
	got := fmt.Sprintf("$ %s\nexit status %d\n--- stdout\n%s--- stderr\n%s",
		strings.Trim(strconv.Quote(strings.Join(args, " ")), `"`), status, w.stdout.String(), w.stderr.String())
	// What depends on where the tests run.
	got = strings.ReplaceAll(got, os.TempDir(), "/tmp")
	got = regexp.MustCompile(`/tmp/[A-Za-z0-9_/]*Test[^ :]*/`).ReplaceAllString(got, "DIR/")
	got = regexp.MustCompile(` in [0-9.]+ [KMG]?i?B`).ReplaceAllString(got, " in SIZE")
	// And on how well a run's random number compresses.
	got = regexp.MustCompile(`x\.[0-9]{4}\.hop`).ReplaceAllString(got, "x.NNNN.hop")
	path := filepath.Join("..", "..", "testdata", "cli", strings.ReplaceAll(filepath.Base(t.Name()), "_", "-")+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; got:\n%s", path, got)
	}
}

// namesFile writes a names file and returns its path.
func namesFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "names.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const someNames = `{"netns":[{"name":"n1","kind":"node"},{"name":"n2","kind":"node"},{"name":"centos","kind":"pod","node":"n1","pod":"default/centos"}],
 "addresses":[{"ip":"192.168.13.23","service":"default/nginx1"},{"ip":"172.23.96.23","pod":"default/centos"},
  {"ip":"2001:db8::23","pod":"default/centos"},{"ip":"172.23.96.163","pod":"web/nginx"},{"ip":"10.0.0.180","node":"n1"}]}`
