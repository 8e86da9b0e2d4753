// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/ruleset"
)

// library is rules of namespaces as a test tells them, on a clock of its own.
type library struct {
	*ruleNames
	mu     sync.Mutex
	rules  map[string]string // by path
	fails  error
	gone   bool // nothing can be read at all
	reads  []string
	clock  uint64
	warned []string
}

func newLibrary(t *testing.T) *library {
	l := &library{rules: map[string]string{}, clock: 1000 * uint64(time.Second)}
	l.ruleNames = &ruleNames{
		read: l.readText, path: func(netns uint32) string { return fmt.Sprintf("/ns/%d", netns) },
		addrs: func(uint32) []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.0.0.1")} },
		warn:  func(s string) { l.warned = append(l.warned, s) }, now: func() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.clock },
		wake: make(chan struct{}, 1), spaces: map[uint32]*ruleSpace{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.watch(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l
}

func (l *library) readText(_ context.Context, path string) readResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads = append(l.reads, path)
	if l.gone {
		return readResult{missing: []missingRules{{err: errors.New("gone")}}}
	}
	set := ruleset.New()
	text := "*filter\n:INPUT ACCEPT [0:0]\n" + l.rules[path] + "\nCOMMIT\n"
	r := readResult{set: set, size: len(text)}
	for _, m := range []missingRules{
		{engine: events.EngineNFTables, err: errors.New("of the other engine")}, {engine: engineSets, err: errors.New("sets")},
		{engine: events.EngineIPTables, family: 10, err: errors.New("of the other family")},
		{err: errors.Join(set.AddIPTables([]byte(text), false, events.EngineIPTables), l.fails)},
	} {
		if m.err != nil {
			r.missing = append(r.missing, m)
		}
	}
	return r
}

// dropped is the question about a packet to a port.
func dropped(time uint64, netns uint32, port uint16) *events.RuleQuery {
	q := &events.RuleQuery{Time: time, Netns: netns, Family: 2, Hook: 1, Engine: events.EngineIPTables, CTState: events.CTStateNew}
	q.Header.Tuple = events.Tuple{Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.1"), SrcPort: 4000, DstPort: port, Proto: 6}
	return q
}

// ask asks until the answer is there.
func (l *library) ask(t *testing.T, netns uint32, port uint16) (f events.RuleFacts, ok bool) {
	t.Helper()
	q := dropped(l.now(), netns, port)
	eventually(t, "the rules are read", func() bool {
		f, ok = l.Rule(q)
		return !f.Pending
	})
	return f, ok
}

// change changes what there is to read.
func (l *library) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *library) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock += uint64(d)
}

func (l *library) list() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.reads, " ")
}

// TestRulesRead: a namespace is read when a packet was dropped there, and again
// only when what was read is old.
func TestRulesRead(t *testing.T) {
	l := newLibrary(t)
	l.change(func() { l.rules["/ns/7"] = "-A INPUT -p tcp -m tcp --dport 80 -j DROP" })
	if f, ok := l.ask(t, 7, 80); !ok || !f.Sure || f.Chain != "INPUT" || f.AgeNS != 0 {
		t.Fatalf("%+v, %v", f, ok)
	}
	l.change(func() { l.rules["/ns/7"] = "-A INPUT -p tcp -m tcp --dport 81 -j DROP" })
	l.pass(9 * time.Second)
	if f, ok := l.ask(t, 7, 80); !ok || !f.Sure || f.AgeNS != int64(9*time.Second) {
		t.Errorf("within ten seconds: %+v, %v", f, ok)
	}
	l.pass(2 * time.Second)
	if f, ok := l.ask(t, 7, 80); ok {
		t.Errorf("the old rule: %+v", f)
	}
	if f, ok := l.ask(t, 7, 81); !ok || !f.Sure {
		t.Errorf("the new rule: %+v, %v", f, ok)
	}
	if got := l.list(); got != "/ns/7 /ns/7" {
		t.Errorf("read: %s", got)
	}
}

// TestRulesReadForMasquerade: a masquerade does with rules that are a minute old:
// nothing failed.
func TestRulesReadForMasquerade(t *testing.T) {
	l := newLibrary(t)
	l.change(func() { l.rules["/ns/7"] = "-A INPUT -p tcp -m tcp --dport 80 -j SNAT --to-source 10.0.0.1" })
	ask := func() (f events.RuleFacts, ok bool) {
		q := dropped(l.now(), 7, 80)
		q.Masquerade = true
		eventually(t, "the rules are read", func() bool {
			f, ok = l.Rule(q)
			return !f.Pending
		})
		return f, ok
	}
	for _, passed := range []time.Duration{0, 59 * time.Second, 2 * time.Second} {
		l.pass(passed)
		if f, ok := ask(); !ok || !f.Sure || f.Chain != "INPUT" {
			t.Errorf("after %v: %+v, %v", passed, f, ok)
		}
	}
	if got := l.list(); got != "/ns/7 /ns/7" {
		t.Errorf("read: %s", got)
	}
}

// TestRulesNotRead: what could not be read makes no rule sure, and is told once.
func TestRulesNotRead(t *testing.T) {
	l := newLibrary(t)
	l.change(func() {
		l.fails = fmt.Errorf("nft %w", errToolMissing)
		l.rules["/ns/7"] = "-A INPUT -p tcp -m tcp --dport 80 -j DROP"
	})
	for range 3 {
		if f, ok := l.ask(t, 7, 80); !ok || f.Sure || f.Why != "not all rules could be read" {
			t.Errorf("%+v, %v", f, ok)
		}
	}
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "nft is not installed; install nftables") {
		t.Errorf("%q", l.warned)
	}
	// Rules that could not be read anew are old.
	l.change(func() { l.fails = nil })
	if _, ok := l.ask(t, 8, 80); ok {
		t.Error("a rule of another namespace")
	}
	l.change(func() { l.gone = true })
	l.pass(time.Minute)
	if f, ok := l.ask(t, 7, 80); !ok || f.Sure || !strings.Contains(f.Why, "not all rules") {
		t.Errorf("%+v, %v", f, ok)
	}
}

// TestRulesBounded: neither the namespaces nor the rules looked at in a second
// grow without end.
func TestRulesBounded(t *testing.T) {
	l := newLibrary(t)
	for netns := range uint32(3 * maxRuleSpaces) {
		l.ask(t, 100+netns, 80)
		l.pass(time.Millisecond)
	}
	if n := len(l.spaces); n > maxRuleSpaces {
		t.Errorf("%d namespaces are kept", n)
	}
	l.change(func() {
		l.rules["/ns/7"] = strings.Repeat("-A INPUT -s 10.1.1.1/32 -j DROP\n", 1000) + "-A INPUT -j DROP"
	})
	l.pass(time.Second)
	answered := 0
	for range 3000 {
		if _, ok := l.ask(t, 7, 80); ok {
			answered++
		}
	}
	if answered > secondLimit/1000+1 || answered < secondLimit/1001-1 {
		t.Errorf("%d answers in a second", answered)
	}
	l.pass(time.Second)
	if _, ok := l.ask(t, 7, 80); !ok {
		t.Error("none in the next one")
	}
}

// inNetns runs a command in a named namespace.
func inNetns(t *testing.T, name, command string) {
	t.Helper()
	err := onThread(func() error {
		if err := enterNamed(name); err != nil {
			return err
		}
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func enterNamed(name string) error {
	fd, err := unix.Open(runNetns+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// TestNativeReadRules reads real rules of a namespace with the real tools, and
// leaves them and their counters as they are.
func TestNativeReadRules(t *testing.T) {
	c := newCluster(t, 1)
	name := c.pods[0].name
	inNetns(t, name, `nft add table inet t
		nft 'add chain inet t in { type filter hook input priority 0; }'
		nft 'add rule inet t in tcp dport 80 counter packets 5 bytes 300 drop comment "no web"'
		iptables-nft -A INPUT -p tcp -m multiport --dports 81,82 -m comment --comment "no others" -j REJECT`)
	list := func() string {
		var out []byte
		if err := onThread(func() (err error) {
			if err := enterNamed(name); err != nil {
				return err
			}
			out, err = exec.Command("nft", "list", "ruleset").Output()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := list()
	got := readRules(t.Context(), runNetns+"/"+name, true)
	if got.missing != nil || got.size == 0 {
		t.Fatal(got)
	}
	for port, want := range map[uint16]string{80: "nftables inet t in no web", 81: "iptables-nft ip filter INPUT no others", 83: ""} {
		q := &events.RuleQuery{Family: 2, Hook: 1, Engine: events.EngineNFTables, CTState: events.CTStateNew, Reject: port == 81}
		q.Header.Tuple = events.Tuple{Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.1"), DstPort: port, Proto: 6}
		f, _, ok := got.set.Find(q, ruleset.Env{}, 1000)
		if got := strings.TrimSpace(strings.Join([]string{f.Engine, f.Family, f.Table, f.Chain, f.Comment}, " ")); got != want || ok != (want != "") || ok && (!f.Sure || f.Handle == 0) {
			t.Errorf("port %d: %q %+v", port, got, f)
		}
	}
	if after := list(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := readRules(t.Context(), runNetns+"/no-such", true); got.set != nil || got.concerning(events.EngineIPTables, 2) == nil {
		t.Error("rules of no namespace")
	}
}

// TestToolOutputBounded: a tool that lists without end is ended.
func TestToolOutputBounded(t *testing.T) {
	b := &boundedBuffer{left: 3, full: func() {}}
	for _, s := range []string{"a", "bc", "d"} {
		if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	if !b.over || b.String() != "abc" {
		t.Errorf("%q, over %v", b.String(), b.over)
	}
}

// TestNativeRuleNamed asks an inventory about a real namespace, as a run does.
func TestNativeRuleNamed(t *testing.T) {
	c := newCluster(t, 1)
	inNetns(t, c.pods[0].name, `nft add table inet t
		nft 'add chain inet t in { type filter hook input priority 0; }'
		nft 'add rule inet t in ip daddr 10.0.0.1 tcp dport 80 drop'`)
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	inv, err := newInventory(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	q := &events.RuleQuery{Time: monotonic(), Netns: c.pods[0].inode, Family: 2, Hook: 1, Engine: events.EngineNFTables, CTState: events.CTStateNew}
	q.Header.Tuple = events.Tuple{Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.1"), DstPort: 80, Proto: 6}
	if f, ok := inv.Rule(q); ok {
		t.Fatalf("nobody reads rules, and there is %+v", f)
	}
	inv.rules = newRuleNames(inv, func(s string) { t.Log(s) })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { inv.rules.watch(ctx) })
	defer wg.Wait()
	defer cancel()
	var f events.RuleFacts
	ok := false
	eventually(t, "the rules are read", func() bool {
		f, ok = inv.Rule(q)
		return !f.Pending
	})
	if !ok || !f.Sure || f.Handle == 0 || f.Text != "ip daddr 10.0.0.1 tcp dport 80 drop" {
		t.Errorf("%+v, %v", f, ok)
	}
}
