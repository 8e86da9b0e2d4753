// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Below 6.6 a tc program hangs on a clsact qdisc, and both stay when the
// process dies. So a second, small process is told of each device before
// anything is attached to it. It waits for the end of its input, which comes
// with the end of the tracer, however that ended, and removes what is ours.

const (
	// cleanerEnv marks the process as a cleaner and says what it is to clean.
	cleanerEnv    = "STACKHOP_CLEANER"
	cleanerTC     = "tc"
	cleanerTCAll  = "tc-all" // with all capabilities
	cleanerDetach = "detach"
	// filterName and filterPriority tell our filters from those of others.
	filterName     = "stackhop"
	filterPriority = 29544
)

// IsCleaner says whether this process was started to be a cleaner; main then
// calls RunCleaner and nothing else.
func IsCleaner() bool { return os.Getenv(cleanerEnv) != "" }

// cleaner is the tracer's side.
type cleaner struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	done   *bufio.Reader
	handle uint32 // of our filters: this process, so that two runs do not meet
}

// startCleaner starts one that drops what it does not need, unless all is kept.
func startCleaner(keep KeepCaps) (*cleaner, error) {
	what := cleanerTC
	if keep == KeepAll {
		what = cleanerTCAll
	}
	cmd := cleanerCommand(what)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start tc cleaner: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start tc cleaner: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tc cleaner: %w", err)
	}
	return &cleaner{cmd: cmd, input: input, done: bufio.NewReader(output), handle: uint32(os.Getpid())}, nil
}

// cleanerCommand is this program as a cleaner. The terminal's Ctrl-C is not for
// it.
func cleanerCommand(what string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"stackhop-cleaner"}
	cmd.Env = []string{cleanerEnv + "=" + what}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// detachLater closes links in a process of its own: the kernel waits for a grace
// period or more for each that it takes away, 0.1 to 0.2 s for a trampoline, and
// many of them would keep the user waiting for the prompt. What hangs on the links
// is switched off by then. The process has nothing to do but to end.
func detachLater(fds []int) error {
	cmd := cleanerCommand(cleanerDetach)
	for _, fd := range fds {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("hand over a link: %w", err)
		}
		f := os.NewFile(uintptr(own), "link")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the process that detaches: %w", err)
	}
	return cmd.Process.Release()
}

// oneByOne keeps other runs of stackhop from the qdiscs of the calling thread's
// namespace while f works on them: one that is made but has no filter yet would
// look like somebody else's, and stay. All processes that open a namespace get
// the same inode, and a lock on it ends with whoever holds it.
func oneByOne(f func() error) error {
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer ns.Close()
	for {
		err := unix.Flock(int(ns.Fd()), unix.LOCK_EX)
		if err == nil {
			return f()
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock the network namespace: %w", err)
		}
	}
}

// attach runs in the device's namespace. The cleaner knows of the device
// before anything is changed on it.
func (c *cleaner) attach(key deviceKey, ingress, egress *ebpf.Program) error {
	return oneByOne(func() error { return c.attachAlone(int(key.ifindex), ingress, egress) })
}

func (c *cleaner) attachAlone(ifindex int, ingress, egress *ebpf.Program) error {
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("device %d: %w", ifindex, err)
	}
	made := !haveClsact(link) || onlyOurs(link)
	if _, err := fmt.Fprintf(c.input, "/proc/%d/task/%d/ns/net %d %d %t\n", os.Getpid(), unix.Gettid(), ifindex, c.handle, made); err != nil {
		return fmt.Errorf("tell tc cleaner: %w", err)
	}
	if _, err := c.done.ReadString('\n'); err != nil {
		return fmt.Errorf("tc cleaner does not answer: %w", err)
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to device %d: %w", ifindex, err)
	}
	for parent, prog := range map[uint32]*ebpf.Program{netlink.HANDLE_MIN_INGRESS: ingress, netlink.HANDLE_MIN_EGRESS: egress} {
		f := c.filter(ifindex, parent)
		f.Fd = prog.FD()
		if err := netlink.FilterAdd(f); err != nil {
			return fmt.Errorf("add tc filter to device %d: %w", ifindex, err)
		}
	}
	return nil
}

func (c *cleaner) filter(ifindex int, parent uint32) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent, Handle: c.handle, Protocol: unix.ETH_P_ALL, Priority: filterPriority},
		Name:         filterName,
		DirectAction: true,
	}
}

// haveClsact says whether a device has a clsact qdisc.
func haveClsact(l netlink.Link) bool {
	qdiscs, err := netlink.QdiscList(l)
	if err != nil {
		return true // then it is not ours to remove
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" || q.Type() == "ingress" {
			return true
		}
	}
	return false
}

// onlyOurs says whether all tc filters of a device are stackhop's, of this run
// or of another, and there is one at least.
func onlyOurs(l netlink.Link) bool {
	total, ours := countFilters(l)
	return total > 0 && total == ours
}

func countFilters(l netlink.Link) (total, ours int) {
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(l, parent)
		if err != nil {
			return 1, 0
		}
		for _, f := range filters {
			total++
			if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName {
				ours++
			}
		}
	}
	return total, ours
}

// close lets the cleaner do its work and waits for it.
func (c *cleaner) close() {
	c.input.Close()
	_ = c.cmd.Wait()
}

// cleanerTarget is a device that the cleaner was told of.
type cleanerTarget struct {
	ns      netns.NsHandle
	ifindex int
	c       cleaner
	made    bool // the qdisc is ours
}

// readTargets reads devices, one a line, until the input ends, and says "ready"
// on out for each. After an error nobody says more; what was read until then
// is returned with it.
func readTargets(in io.Reader, out io.Writer) (targets []cleanerTarget, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var t cleanerTarget
		var path string
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %d %t", &path, &t.ifindex, &t.c.handle, &t.made); err != nil {
			return targets, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if t.ns, err = netns.GetFromPath(path); err != nil {
			return targets, fmt.Errorf("open namespace %s: %w", path, err)
		}
		targets = append(targets, t)
		// Without a reader the tracer is gone, and the input ends as well.
		_, _ = fmt.Fprintln(out, "ready")
	}
	return targets, lines.Err()
}

// RunCleaner is the cleaner process. It returns when its work is done.
func RunCleaner() int {
	if os.Getenv(cleanerEnv) == cleanerDetach {
		return 0 // the links go with this process
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1)
	// A container that needs too much memory is killed as a whole (memory.oom.group,
	// as Kubernetes sets it), but for processes that say this. Without
	// CAP_SYS_RESOURCE it may not be said.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	status := 0
	complain := func(err error) {
		fmt.Fprintf(os.Stderr, "stackhop tc cleaner: %v\n", err)
		status = 1
	}
	if os.Getenv(cleanerEnv) == cleanerTC {
		if err := dropPrivilege(setOf(KeptByCleaner, &Later{}), kernelThreads{}); err != nil {
			complain(err)
			return status // nothing is attached without an answer
		}
	}
	targets, err := readTargets(os.Stdin, os.Stdout)
	if err != nil {
		complain(err)
		// The tracer finds nobody answering and goes on without tc on further
		// devices. Those that have our filters are still to be cleaned, once it
		// has ended.
		os.Stdout.Close()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	for _, t := range targets {
		var removeErr error
		err := inNamespace(fmt.Sprintf("/proc/self/fd/%d", t.ns), func() {
			removeErr = oneByOne(func() error { return t.c.remove(t.ifindex, t.made) })
		})
		if err = errors.Join(err, removeErr); err != nil {
			complain(err)
		}
	}
	return status
}

// remove takes our filters off a device, and the qdisc if it was made for them
// and nobody else uses it by now.
func (c *cleaner) remove(ifindex int, made bool) error {
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil // vanished, and all of it
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		err := netlink.FilterDel(c.filter(ifindex, parent))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("remove tc filter of device %d: %w", ifindex, err)
		}
	}
	if total, _ := countFilters(link); !made || total > 0 || !haveClsact(link) {
		return nil
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscDel(qdisc); err != nil {
		return fmt.Errorf("remove clsact of device %d: %w", ifindex, err)
	}
	return nil
}
