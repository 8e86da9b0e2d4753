// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// The documented sets (SECURITY.md), by the numbers of linux/capability.h.
const (
	lateCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON |
		1<<unix.CAP_SYSLOG | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH
	cleanerCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE
	oldBPFCaps  = 1 << unix.CAP_BPF // with none, below 5.19
)

const (
	lateSpace = "latecomer"    // a namespace that comes while the tool runs
	lateAddr  = "172.31.250.2" // its own; n1's end has lateHost
	lateHost  = "172.31.250.1"
	latePort  = 4490
	// watchfulFor is how long a new device may take to be attached to, and told of.
	watchfulFor = 30 * time.Second
)

// privileges: once the tool is ready all its threads have the documented capabilities
// and no others, and it does with them what it says.
func (c *checker) privileges() (err error) {
	defer func() { err = errors.Join(err, c.removeRules()) }()
	for i := range ruleWriters {
		for place, p := range rulePlaces {
			if err := ruleWriters[i].write(p.netns, p.hook, rulesOf(&ruleWriters[i], place)); err != nil {
				return err
			}
		}
	}
	// The rules' modules are loaded, and their tools'.
	if _, err := c.rulesNow(); err != nil {
		return err
	}
	if err := c.anew(); err != nil {
		return err
	}
	none := uint64(0)
	if old, err := kernelBelow(5, 19); err != nil {
		return err
	} else if old {
		none = oldBPFCaps
	}
	for _, p := range []privilegeCheck{{checker: c, keep: "late", caps: lateCaps}, {checker: c, keep: "none", caps: none}} {
		if err := p.run(); err != nil {
			return fmt.Errorf("--keep-caps %s: %w", p.keep, err)
		}
		if err := c.clean("--keep-caps " + p.keep); err != nil {
			return err
		}
	}
	return c.commandPrivileges()
}

// kernelBelow says whether this kernel is older than a version.
func kernelBelow(major, minor int) (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, err
	}
	var x, y int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &x, &y); err != nil {
		return false, err
	}
	return x < major || x == major && y < minor, nil
}

// A privilegeCheck is one run of the tool.
type privilegeCheck struct {
	*checker
	keep string
	caps uint64
	tool *session
}

func (p *privilegeCheck) run() (err error) {
	selected := fmt.Sprintf("(udp and port %d) or (tcp and portrange 4100-4399)", latePort)
	if p.tool, err = p.checker.tool.start("--keep-caps", p.keep, selected); err != nil {
		return err
	}
	if err := p.readStatus(); err != nil {
		return err
	}
	if err := p.newDevice(); err != nil {
		return err
	}
	for range ruleRounds {
		p.knock()
	}
	if err := p.tool.interrupt(); err != nil {
		return err
	}
	said := p.tool.stderr.String()
	for _, spam := range []string{"not permitted", "denied", "cannot read"} {
		if strings.Contains(said, spam) {
			return fmt.Errorf("it says %q: %s", spam, lastLines(said, 12))
		}
	}
	all, err := p.tool.traversals()
	if err != nil {
		return err
	}
	return p.judgeRules(all, said)
}

// readStatus compares what the kernel says of all threads, and of the watcher.
func (p *privilegeCheck) readStatus() error {
	pid := p.tool.cmd.Process.Pid
	threads, err := privilegesOf(pid)
	if err != nil {
		return err
	}
	want := privilegeText(p.caps, p.caps, true)
	for tid, got := range threads {
		if got != want {
			return fmt.Errorf("thread %d has %s, want %s", tid, got, want)
		}
	}
	p.fact("--keep-caps %s: %d threads with %s", p.keep, len(threads), want)
	watcher, err := childOf(pid, "stackhop-cleaner")
	if err != nil || watcher == 0 {
		return err
	}
	threads, err = privilegesOf(watcher)
	if err != nil {
		return err
	}
	want = privilegeText(cleanerCaps, cleanerCaps, true)
	for tid, got := range threads {
		if got != want {
			return fmt.Errorf("thread %d of the watcher has %s, want %s", tid, got, want)
		}
	}
	p.fact("the watcher: %d threads with %s", len(threads), want)
	return nil
}

// privilegeText is the one line for what a thread has.
func privilegeText(caps, bounding uint64, noNewPrivs bool) string {
	flag := map[bool]string{true: "1", false: "0"}[noNewPrivs]
	return fmt.Sprintf("CapInh %016x CapPrm %016[1]x CapEff %016[1]x CapBnd %016[2]x CapAmb %016[1]x NoNewPrivs %[3]s", caps, bounding, flag)
}

// privilegesOf reads what each thread of a process has.
func privilegesOf(pid int) (map[int]string, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("threads of %d: %d, %w", pid, len(files), err)
	}
	out := map[int]string{}
	for _, f := range files {
		tid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			return nil, err
		}
		if text := privilegeLines(lines(f)); text != "" { // empty: the thread has ended
			out[tid] = text
		}
	}
	return out, nil
}

func privilegeLines(status []string) string {
	var out []string
	for _, line := range status {
		if key, value, _ := strings.Cut(line, ":"); strings.HasPrefix(key, "Cap") || key == "NoNewPrivs" {
			out = append(out, key+" "+strings.TrimSpace(value))
		}
	}
	return strings.Join(out, " ")
}

// childOf finds a process's child by its first word; 0: there is none.
func childOf(parent int, word string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, _ := os.ReadFile(f) // it may have ended
		first, _, _ := strings.Cut(string(text), "\x00")
		dir := filepath.Dir(f)
		if first != word || !slices.Contains(lines(filepath.Join(dir, "status")), fmt.Sprintf("PPid:\t%d", parent)) {
			continue
		}
		return strconv.Atoi(filepath.Base(dir))
	}
	return 0, nil
}

// newDevice has a namespace come with a device to n1: with late the tool attaches to
// both ends, with none it says that it does not.
func (p *privilegeCheck) newDevice() (err error) {
	if err := createNetns(lateSpace); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, netns.DeleteNamed(lateSpace)) }()
	node, late := openHost("n1"), openHost(lateSpace)
	defer node.close()
	defer late.close()
	node.veth("vethlate", late, "eth0")
	node.addr("vethlate", lateHost+"/24")
	late.addr("eth0", lateAddr+"/24")
	if err := errors.Join(node.err, late.err); err != nil {
		return err
	}
	defer func() {
		node.do("remove vethlate", func() error {
			l, err := node.h.LinkByName("vethlate")
			if err != nil {
				return err
			}
			return node.h.LinkDel(l)
		})
		err = errors.Join(err, node.err)
	}()
	begun := time.Now()
	for p.keep == "none" || !(covered("n1", "vethlate") && covered(lateSpace, "eth0")) {
		if p.keep == "none" && strings.Contains(p.tool.stderr.String(), "packets pass devices that came after the start") {
			break
		}
		if time.Since(begun) > watchfulFor {
			return fmt.Errorf("%v after a new device nothing of it: %s", watchfulFor, lastLines(p.tool.stderr.String(), 12))
		}
		if err := sendOne(); err != nil {
			return err
		}
	}
	if p.keep == "none" && covered("n1", "vethlate") {
		return errors.New("a new device was attached to without a capability")
	}
	p.fact("--keep-caps %s: a new device after %.1f s", p.keep, time.Since(begun).Seconds())
	return nil
}

// sendOne sends a datagram from the new namespace to n1, which the tool selects.
func sendOne() error {
	return inNetns(lateSpace, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(lateHost, strconv.Itoa(latePort)))
		if err != nil {
			return err
		}
		defer conn.Close()
		// That nobody listens may be known by now.
		_, _ = conn.Write([]byte("late"))
		return nil
	})
}

// covered says whether the tool has its tc programs on a device.
func covered(space, device string) (yes bool) {
	_ = inNetns(space, func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		if got, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: ebpf.AttachTCXIngress}); err == nil && len(got.Programs) > 0 {
			yes = true
		}
		filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
		yes = yes || err == nil && len(filters) > 0
		return nil
	})
	return yes
}

// judgeRules: with late the rules are named, with none each drop is told as one of a
// rule that is not known, and why is said once.
func (p *privilegeCheck) judgeRules(all []*events.Traversal, said string) error {
	var faults []string
	ended := 0
	for i := range ruleWriters {
		for place := range rulePlaces {
			if p.keep == "late" {
				faults = append(faults, p.ruleFaults(&ruleWriters[i], place, all)...)
			}
		}
	}
	for _, t := range all {
		if t.Proto != "tcp" || t.Verdict != events.Terminated {
			continue
		}
		ended++
		if p.keep == "none" && (t.Rule != nil || t.Where != "netfilter" || !strings.Contains(t.Summary, "netfilter")) {
			faults = append(faults, fmt.Sprintf("port %d: %s %+v", t.Dst.Port, t.Summary, t.Rule))
		}
	}
	const why = "is not known: --keep-caps none reads nothing after the start"
	if n := strings.Count(said, why); n != map[string]int{"none": 1}[p.keep] {
		faults = append(faults, fmt.Sprintf("%q is said %d times", why, n))
	}
	p.fact("--keep-caps %s: %d packets ended by rules; of it: %s", p.keep, ended, lastLines(said, 6))
	if len(faults) > 0 || ended == 0 {
		return fmt.Errorf("%d ended, %d faults:\n      %s", ended, len(faults), strings.Join(faults[:min(20, len(faults))], "\n      "))
	}
	return nil
}

// commandPrivileges: COMMAND has what the user has.
func (c *checker) commandPrivileges() error {
	want := privilegeLines(lines("/proc/self/status"))
	for _, keep := range []string{"late", "none"} {
		s, _, err := c.tool.around([]string{"--hooks", "tracepoints", "--keep-caps", keep, "udp port 9"}, "cat", "/proc/self/status")
		if err != nil {
			return err
		}
		if got := privilegeLines(strings.Split(s.stderr.String(), "\n")); got != want {
			return fmt.Errorf("--keep-caps %s: COMMAND has %s, want %s", keep, got, want)
		}
	}
	c.fact("COMMAND: %s", want)
	return nil
}
