// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stackhop/stackhop/tracer"
)

// A benchWay is one way to run the same traffic: a tracer beside it.
type benchWay struct {
	name string
	argv []string
	own  bool // it is this tool: it writes {ready} and sums up
	// ready is the line that a tracer of somebody else's prints once everything is
	// attached (empty: whatever it says first, or its silence for a while).
	ready string
	note  string // for the table
}

const (
	untraced = "untraced"
	// {ready} and {file} in a way's arguments are files of the run.
	readyFile, recordFile = "{ready}", "{file}"
	// The tool's selections. The first matches nothing: no such address is in use.
	selectNothing, selectAll = "host 192.0.2.99", "tcp or udp"
)

// toolWays are those of the tool at a site.
func toolWays(t tool, site benchSite) []benchWay {
	common := slices.Concat([]string{"--names", site.names, "--no-kube", "--ready-file", readyFile}, site.set)
	trace := func(name, filter string) benchWay {
		return benchWay{name: name, own: true, argv: slices.Concat([]string{t.path, "trace", "-o", "json"}, common, []string{filter})}
	}
	return []benchWay{
		trace(wayNothing, selectNothing),
		trace(wayAll, selectAll),
		{name: wayRecord, own: true, argv: slices.Concat([]string{t.path, "record", "-w", recordFile}, common, []string{selectAll})},
	}
}

// drainWay is a reader that throws all events away, see drain.
func drainWay(me string, site benchSite) benchWay {
	hooks := tracer.HooksAll
	if len(site.set) > 0 {
		hooks = tracer.HooksTracepoints
	}
	return benchWay{name: wayThrown, ready: bpftraceReady, argv: []string{me, "drain", "-hooks", string(hooks), selectAll}}
}

// hookList is the tool's own list of its hooks, as JSON.
func hookList(t tool) ([]byte, error) {
	text, err := exec.Command(t.path, "hooks", "-o", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tool's hooks: %w", err)
	}
	return text, nil
}

// firstNetns is the namespace that this program is in: the tool attaches to its devices,
// too. Process 1 may be one that not even root may look into.
const firstNetns = "/proc/self/ns/net"

// bareWay are programs that return at once, see bare.
func bareWay(me string, t tool, site benchSite) (benchWay, error) {
	text, err := hookList(t)
	if err != nil {
		return benchWay{}, err
	}
	hooks, err := bareHooks(text, len(site.set) > 0)
	if err != nil {
		return benchWay{}, err
	}
	list, err := json.Marshal(hooks)
	return benchWay{name: wayBare, ready: bpftraceReady, argv: append([]string{me, "bare", "-hooks", string(list), firstNetns}, site.netns...)}, err
}

// peerWay is a tracer that the user named.
func peerWay(command string) benchWay {
	return benchWay{name: "peer", note: command, argv: []string{"sh", "-c", command}}
}

// bpftraceWay counts the calls of the functions that the tool hooks, or says why
// there is none of it.
func bpftraceWay(t tool, site benchSite) (w benchWay, missing string, err error) {
	path, err := exec.LookPath("bpftrace")
	if err != nil {
		return w, "bpftrace: left out, it is not installed here", nil
	}
	text, err := hookList(t)
	if err != nil {
		return w, "", err
	}
	info, err := exec.Command(path, "--info").CombinedOutput()
	if err != nil {
		return w, "", fmt.Errorf("bpftrace --info: %w: %s", err, lastLines(string(info), 3))
	}
	probes, without, err := bpftraceProbes(text, len(site.set) > 0, bpftraceHasKfunc(info))
	if err != nil {
		return w, "", err
	}
	if len(probes) == 0 {
		return w, "bpftrace: left out, this kernel has no hook for it", nil
	}
	note := fmt.Sprintf("%d probes (%s), on the functions that the tool hooks", len(probes), probeKinds(probes))
	if without > 0 {
		note += fmt.Sprintf("; %d hooks of the tool on tc are not for bpftrace", without)
	}
	program := `BEGIN { printf("` + bpftraceReady + `\n"); } ` + strings.Join(probes, ",") + ` { @ = count(); }`
	return benchWay{name: "bpftrace", ready: bpftraceReady, note: note, argv: []string{path, "-e", program}}, "", nil
}

// bpftraceReady is said in BEGIN: that is printed once all probes are attached.
const bpftraceReady = "ready"

// bpftraceProbes makes bpftrace's probes of the tool's list of hooks: each
// function once, attached in the same manner if bpftrace has that here. It also
// returns how many hooks bpftrace cannot have.
func bpftraceProbes(list []byte, tracepoints, kfunc bool) (probes []string, without int, err error) {
	kinds := map[string]string{"fentry": "kfunc:", "fexit": "kretfunc:", "kprobe": "kprobe:", "kretprobe": "kretprobe:",
		"tp_btf": "tracepoint:*:", "raw_tp": "tracepoint:*:"}
	if !kfunc {
		kinds["fentry"], kinds["fexit"] = kinds["kprobe"], kinds["kretprobe"]
	}
	seen := map[string]bool{}
	dec := json.NewDecoder(strings.NewReader(string(list)))
	for {
		var hook struct{ Function, How string }
		if err := dec.Decode(&hook); errors.Is(err, io.EOF) {
			return slices.Sorted(maps.Keys(seen)), without, nil
		} else if err != nil {
			return nil, 0, fmt.Errorf("the tool's list of hooks: %w", err)
		}
		kind := kinds[hook.How]
		switch {
		case hook.How == "absent" || tracepoints && !strings.HasPrefix(kind, "tracepoint") && hook.How != "tc":
		case kind == "":
			without++
		default:
			seen[kind+hook.Function] = true
		}
	}
}

// bpftraceHasKfunc reads what bpftrace says of the kernel. Debian 12's does not take
// 5.10's BTF for enough.
func bpftraceHasKfunc(info []byte) bool { return kfuncText.Match(info) }

var kfuncText = regexp.MustCompile(`(?m)^ *kfunc: yes$`)

// probeKinds says how many there are of each kind.
func probeKinds(probes []string) string {
	count := map[string]int{}
	for _, p := range probes {
		kind, _, _ := strings.Cut(p, ":")
		count[kind]++
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %s", count[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// A benchRun is a way that goes on beside the traffic.
type benchRun struct {
	way    benchWay
	dir    string
	proc   *benchProcess
	attach float64 // seconds
	// programs are the BPF programs that came with it.
	programs map[uint32]bool
}

// start starts a way and returns once everything is attached.
func (w benchWay) start() (*benchRun, error) {
	r := &benchRun{way: w}
	before, err := bpfPrograms()
	if err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", "lab-bench-"); err != nil {
		return nil, err
	}
	ready, file := filepath.Join(r.dir, "ready"), r.file()
	argv := slices.Clone(w.argv)
	for i, arg := range argv {
		argv[i] = strings.NewReplacer(readyFile, ready, recordFile, file).Replace(arg)
	}
	begun := time.Now()
	if r.proc, err = startProcess(argv); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	err = r.proc.await(func() bool {
		switch {
		case w.own:
			_, err := os.Stat(ready)
			return err == nil
		case w.ready != "":
			return strings.Contains("\n"+r.proc.stdout.String(), "\n"+w.ready+"\n")
		}
		return r.proc.said() != "" || time.Since(begun) > peerSilence
	})
	r.attach = time.Since(begun).Seconds()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not get ready: %w", w.name, err), os.RemoveAll(r.dir))
	}
	if r.programs, err = bpfPrograms(); err != nil {
		return nil, errors.Join(err, r.proc.interrupt(), os.RemoveAll(r.dir))
	}
	maps.DeleteFunc(r.programs, func(id uint32, _ bool) bool { return before[id] })
	return r, nil
}

// peerSilence is how long a peer that says nothing is taken to need.
const peerSilence = 5 * time.Second

// file is where the way's recording goes.
func (r *benchRun) file() string { return filepath.Join(r.dir, "all.hop") }

// beside makes a load's traffic, and says what the way took and saw meanwhile, warming up
// included but for the lag of lines; of somebody else's only the peak of its memory.
func (r *benchRun) beside(l benchLoad, site benchSite, lasts time.Duration) (d benchDuring, err error) {
	var before, after benchCost
	if r.way.own {
		before, err = r.ask()
	}
	if err != nil {
		return d, err
	}
	r.proc.forgetPeak()
	if _, err = l.run(site, warmUp(lasts)); err != nil {
		return d, err
	}
	r.proc.lines.begin()
	if d.loadResult, err = l.run(site, lasts); err != nil {
		return d, err
	}
	r.proc.lines.end()
	peak := r.proc.memory("VmHWM")
	if r.way.own {
		after, err = r.settled()
	}
	d.cost = after.since(&before)
	d.cost.PeakRSS = peak
	return d, err
}

// ask is what the tool has taken and seen so far.
func (r *benchRun) ask() (c benchCost, err error) {
	asked := r.proc.answers()
	if err = syscall.Kill(r.proc.cmd.Process.Pid, syscall.SIGUSR1); err != nil {
		return c, fmt.Errorf("ask %s for its counters: %w", r.way.name, err)
	}
	if err = r.proc.await(func() bool { return r.proc.answers() > asked }); err != nil {
		return c, fmt.Errorf("%s did not tell its counters: %w", r.way.name, err)
	}
	err = c.parseSummary(r.proc.stderr.String())
	c.User, c.System = cpuOf(r.proc.cmd.Process.Pid)
	return c, err
}

// settling bounds the wait for what is in the rings; other traffic may never end.
const settling = 10 * time.Second

// settled asks until what is in the rings has been read.
func (r *benchRun) settled() (c benchCost, err error) {
	for deadline := time.Now().Add(settling); ; {
		before := c.Events
		if c, err = r.ask(); err != nil || c.Events == before {
			return c, err
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "lab: %s still had events %v behind the traffic: they count there\n", r.way.name, settling)
			return c, nil
		}
	}
}

// stop ends the way as Ctrl-C does, and waits until its programs are gone: the
// kernel takes hooks away in the background.
func (r *benchRun) stop() (benchCost, error) {
	c := benchCost{Attach: r.attach, PeakRSS: r.proc.memory("VmHWM")}
	begun := time.Now()
	err := r.proc.interrupt()
	c.Detach = time.Since(begun).Seconds()
	c.User = r.proc.cmd.ProcessState.UserTime().Seconds()
	c.System = r.proc.cmd.ProcessState.SystemTime().Seconds()
	if err != nil {
		return c, errors.Join(fmt.Errorf("%s: %w", r.way.name, err), os.RemoveAll(r.dir))
	}
	if r.way.own {
		err = c.parseSummary(r.proc.stderr.String())
	} else if events, ok := parseCount(r.proc.said()); ok {
		c.Events = events
	}
	if info, err := os.Stat(r.file()); err == nil {
		c.File = info.Size()
	}
	err = errors.Join(err, r.gone(), os.RemoveAll(r.dir))
	c.Gone = time.Since(begun).Seconds()
	return c, err
}

// gone waits until the run's programs have left the kernel.
func (r *benchRun) gone() error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now, err := bpfPrograms()
		if err != nil {
			return err
		}
		maps.DeleteFunc(now, func(id uint32, _ bool) bool { return !r.programs[id] })
		if len(now) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %d BPF programs that came with it are still there after a minute", r.way.name, len(now))
		}
	}
}
