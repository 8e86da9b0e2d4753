// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errDrop is wrapped by every complaint about capabilities that stay.
var errDrop = errors.New("capabilities that are not needed any more cannot be dropped")

// dropWayOut ends each of them.
const dropWayOut = "nothing is traced; --keep-caps all runs without dropping any"

// DropPrivilege leaves all threads of this process with what Config.Keep says, and
// makes sure of it. Whatever goes on that needs more must have been begun. After an
// error the process may have lost a part, and must not go on.
func (t *Tracer) DropPrivilege() error {
	if t.cfg.Keep == KeepAll {
		return nil
	}
	if t.cfg.Keep == KeepNone {
		t.freeze()
	}
	return dropPrivilege(keptSet(t.cfg.Keep, &t.cfg.Later, t.kernel.release), kernelThreads{})
}

const sysPtrace capSet = 1 << unix.CAP_SYS_PTRACE

// threads are all of this process.
type threads interface {
	// prctl and capset make the system call on each of them.
	prctl(option, arg2, arg3 uintptr) error
	capset(hdr *unix.CapUserHeader, data *[2]unix.CapUserData) error
	// capabilities reads what each has, by its number.
	capabilities() (map[int]threadCaps, error)
}

// dropPrivilege leaves the threads with those of keep that they have.
func dropPrivilege(keep capSet, all threads) error {
	before, err := all.capabilities()
	if err != nil {
		return fmt.Errorf("%w: %w: %s", errDrop, err, dropWayOut)
	}
	had := before[os.Getpid()]
	// Who lacks CAP_SYS_PTRACE may look into the namespaces and files of those processes
	// that have no more capabilities: with fewer, pods would be out of sight that were
	// seen, and the tracer out of its watcher's.
	if keep&sysPtrace != 0 && had.permitted&sysPtrace == 0 {
		keep = had.permitted
	}
	want := threadCaps{noNewPrivs: true, bounding: had.bounding}
	want.permitted = keep & had.permitted
	want.effective, want.inheritable, want.ambient = want.permitted, want.permitted, want.permitted
	mayBound := had.effective&(1<<unix.CAP_SETPCAP) != 0
	if mayBound {
		want.bounding &= want.permitted
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"no_new_privs", func() error { return all.prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0) }},
		{"the bounding set", func() error { return cutBounding(had.bounding&^want.bounding, all) }},
		{"the ambient set", func() error { return all.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0) }},
		{"the permitted set", func() error { return setAll(want.permitted, all) }},
		// What is started later has them too, also of a user who is not root: nft is to
		// read rules.
		{"the ambient set", func() error { return raiseAmbient(want.ambient, all) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%w: %s: %w: %s", errDrop, step.what, err, dropWay(err))
		}
	}
	for deadline := time.Now().Add(endingPatience); ; time.Sleep(endingPatience / 500) {
		if err = allHave(want, all); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// endingPatience is how long a thread may be listed that has ended for package syscall:
// each look into a namespace ends one.
var endingPatience = time.Second

// allHave makes sure of what all threads have.
func allHave(want threadCaps, all threads) error {
	now, err := all.capabilities()
	if err != nil {
		return fmt.Errorf("%w: %w: %s", errDrop, err, dropWayOut)
	}
	for tid, got := range now {
		if got != want {
			return fmt.Errorf("%w: thread %d has %v where it should have %v: %s", errDrop, tid, got, want, dropWayOut)
		}
	}
	return nil
}

// dropWay is the way out of an error of the kernel or of package syscall.
func dropWay(err error) string {
	if errors.Is(err, unix.ENOTSUP) {
		return "this program was built with cgo, which has threads that Go does not know: build it with CGO_ENABLED=0 (make build); " + dropWayOut
	}
	return dropWayOut
}

func cutBounding(gone capSet, all threads) error {
	for bit := range uint(64) {
		if gone&(1<<bit) == 0 {
			continue
		}
		if err := all.prctl(unix.PR_CAPBSET_DROP, uintptr(bit), 0); err != nil {
			return err
		}
	}
	return nil
}

func setAll(keep capSet, all threads) error {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		half := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: half, Permitted: half, Inheritable: half}
	}
	return all.capset(hdr, data)
}

func raiseAmbient(keep capSet, all threads) error {
	for bit := range uint(64) {
		if keep&(1<<bit) == 0 {
			continue
		}
		if err := all.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(bit)); err != nil {
			return err
		}
	}
	return nil
}

// checkThreads refuses early what DropPrivilege would refuse late.
func checkThreads() error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_GET_KEEPCAPS, 0, 0); errno != 0 {
		return fmt.Errorf("%w: %w: %s", errDrop, errno, dropWay(errno))
	}
	return nil
}

// kernelThreads are those of this process. Capabilities are each thread's own; package
// syscall knows all threads, those that are locked in another namespace too, and those
// that are made later inherit.
type kernelThreads struct{}

func (kernelThreads) prctl(option, arg2, arg3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, option, arg2, arg3); errno != 0 {
		return errno
	}
	return nil
}

func (kernelThreads) capset(hdr *unix.CapUserHeader, data *[2]unix.CapUserData) error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(hdr)
	runtime.KeepAlive(data)
	if errno != 0 {
		return errno
	}
	return nil
}

func (kernelThreads) capabilities() (map[int]threadCaps, error) {
	return processCaps("/proc/self/task")
}

// processCaps reads a folder with a subfolder for each thread.
func processCaps(folder string) (map[int]threadCaps, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	all := map[int]threadCaps{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name(), "status"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		var caps threadCaps
		if err == nil {
			caps, err = parseCaps(string(text))
		}
		tid, nerr := strconv.Atoi(e.Name())
		if err = errors.Join(err, nerr); err != nil {
			return nil, fmt.Errorf("read capabilities of thread %s: %w", e.Name(), err)
		}
		all[tid] = caps
	}
	return all, nil
}

// threadCaps is the privilege of one thread.
type threadCaps struct {
	effective, permitted, inheritable, ambient, bounding capSet
	noNewPrivs                                           bool
}

func (c threadCaps) String() string {
	return fmt.Sprintf("effective %v, permitted %v, inheritable %v, ambient %v, bounding %v, no_new_privs %t",
		c.effective, c.permitted, c.inheritable, c.ambient, c.bounding, c.noNewPrivs)
}

// parseCaps reads /proc/PID/status (5.10 has all lines).
func parseCaps(status string) (c threadCaps, err error) {
	sets := map[string]*capSet{"CapEff": &c.effective, "CapPrm": &c.permitted, "CapInh": &c.inheritable, "CapAmb": &c.ambient, "CapBnd": &c.bounding}
	left := len(sets) + 1
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if set, ok := sets[key]; ok {
			n, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return c, fmt.Errorf("%s: %w", key, err)
			}
			*set = capSet(n)
			left--
		}
		if key == "NoNewPrivs" {
			c.noNewPrivs = value == "1"
			left--
		}
	}
	if left != 0 {
		return c, errors.New("the kernel does not tell all of them")
	}
	return c, nil
}
