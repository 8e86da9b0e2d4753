// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKept(t *testing.T) {
	for bit, name := range map[uint]string{
		unix.CAP_CHOWN: "chown", unix.CAP_SYS_ADMIN: "sys_admin", unix.CAP_SYS_TTY_CONFIG: "sys_tty_config",
		unix.CAP_SYSLOG: "syslog", unix.CAP_CHECKPOINT_RESTORE: "checkpoint_restore",
	} {
		if capNames[bit] != name {
			t.Errorf("%d is %s, not %s", bit, capNames[bit], name)
		}
	}
	if len(capNames) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names of %d capabilities", len(capNames), unix.CAP_LAST_CAP+1)
	}
	for _, c := range slices.Concat(Kept, KeptByCleaner, KeptWithNone) {
		if c.Name != "CAP_"+strings.ToUpper(capNames[c.bit]) || c.Why == "" {
			t.Errorf("%d is %s, not %s; why: %q", c.bit, capNames[c.bit], c.Name, c.Why)
		}
	}
	for _, c := range Kept {
		if (c.when == nil) != (c.If == "") {
			t.Errorf("%s: when it is kept is told as %q", c.Name, c.If)
		}
	}
	late := setOf(Kept, &Later{})
	for _, c := range needed {
		if late&(1<<c.bit) == 0 {
			t.Errorf("%s is needed to trace, and not kept", c.name)
		}
	}
}

func TestKeptSet(t *testing.T) {
	const late = "cap_dac_read_search,cap_net_admin,cap_net_raw,cap_sys_ptrace,cap_sys_admin,cap_syslog,cap_perfmon,cap_bpf"
	for _, tt := range []struct {
		keep    KeepCaps
		later   Later
		release string
		want    string
	}{
		{KeepLate, Later{}, "5.10.0-33-cloud-amd64", late},
		{KeepLate, Later{}, "7.0.1", late},
		{KeepLate, Later{Command: true}, "6.12.0", strings.Replace(late, "search,", "search,cap_kill,", 1)},
		{KeepLate, Later{Give: true}, "6.12.0", "cap_chown," + late},
		{KeepLate, Later{Foreign: true}, "6.12.0", "cap_dac_override," + late},
		{KeepLate, Later{Foreign: true, Sticky: true}, "6.12.0", "cap_dac_override," + strings.Replace(late, "search,", "search,cap_fowner,", 1)},
		{KeepNone, Later{Command: true, Give: true}, "6.12.0", "none"},
		{KeepNone, Later{}, "5.19.0-rc1", "none"},
		{KeepNone, Later{}, "5.18.19", "cap_bpf"},
		{KeepNone, Later{}, "5.10.0-33-cloud-amd64", "cap_bpf"},
		{KeepNone, Later{}, "what", "cap_bpf"},
	} {
		if got := keptSet(tt.keep, &tt.later, tt.release).String(); got != tt.want {
			t.Errorf("%s, %+v on %s: %s, want %s", tt.keep, tt.later, tt.release, got, tt.want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.19": true, "5.19.3-x": true, "5.20": true, "6.1.0": true, "10.0": true, "5.18": false, "5.9": false, "4.20": false, "": false, "6": false, "x.y": false,
	} {
		if atLeast(release, [2]int{5, 19}) != want {
			t.Errorf("%s: %v", release, !want)
		}
	}
}

// fakeThreads are two threads of a kernel that may refuse, or not do what it says.
type fakeThreads struct {
	caps  map[int]threadCaps
	calls []string
	fail  string                  // the call that fails
	deaf  int                     // a thread that keeps what it had
	spoil func(fake *fakeThreads) // before what came of it is read
	reads int
}

const otherThread = 1

func newFakeThreads(c threadCaps) *fakeThreads {
	return &fakeThreads{caps: map[int]threadCaps{os.Getpid(): c, otherThread: c}}
}

func (f *fakeThreads) each(call string, do func(c *threadCaps)) error {
	f.calls = append(f.calls, call)
	if call == f.fail {
		return unix.EPERM
	}
	for tid, c := range f.caps {
		if tid != f.deaf {
			do(&c)
			f.caps[tid] = c
		}
	}
	return nil
}

func (f *fakeThreads) prctl(option, arg2, arg3 uintptr) error {
	switch option {
	case unix.PR_SET_NO_NEW_PRIVS:
		return f.each("no_new_privs", func(c *threadCaps) { c.noNewPrivs = arg2 == 1 })
	case unix.PR_CAPBSET_DROP:
		return f.each("bounding", func(c *threadCaps) { c.bounding &^= 1 << arg2 })
	}
	if arg2 == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		return f.each("clear ambient", func(c *threadCaps) { c.ambient = 0 })
	}
	return f.each("raise ambient", func(c *threadCaps) {
		c.ambient |= c.permitted & c.inheritable & (1 << arg3)
	})
}

func (f *fakeThreads) capset(hdr *unix.CapUserHeader, data *[2]unix.CapUserData) error {
	return f.each(fmt.Sprintf("capset %x", hdr.Version), func(c *threadCaps) {
		c.permitted = capSet(data[0].Permitted) | capSet(data[1].Permitted)<<32
		c.effective = capSet(data[0].Effective) | capSet(data[1].Effective)<<32
		c.inheritable = capSet(data[0].Inheritable) | capSet(data[1].Inheritable)<<32
	})
}

// fails says whether a call of that form fails, and reads its number.
func (f *fakeThreads) fails(form string, n *int) bool {
	_, err := fmt.Sscanf(f.fail, form, n)
	return err == nil
}

func (f *fakeThreads) capabilities() (map[int]threadCaps, error) {
	if f.reads++; f.reads > 1 && f.spoil != nil {
		f.spoil(f)
	}
	if n := 0; f.fails("read %d", &n) && f.reads >= n {
		return nil, errors.New("no proc here")
	}
	return f.caps, nil
}

const (
	allCaps = capSet(1<<41 - 1)
	keepTwo = capSet(1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN)
)

func rootCaps() threadCaps {
	return threadCaps{effective: allCaps, permitted: allCaps, bounding: allCaps}
}

// TestDropPrivilege: who has all is left with the set, who has fewer with what of it he
// had, who may not cut the bounding set with that as it was.
func TestDropPrivilege(t *testing.T) {
	few := capSet(1<<unix.CAP_BPF | 1<<unix.CAP_CHOWN)
	const withPtrace = keepTwo | sysPtrace
	for _, tt := range []struct {
		name           string
		had            threadCaps
		keep           capSet
		kept, bounding capSet
	}{
		{"root", rootCaps(), keepTwo, keepTwo, keepTwo},
		{"root to nothing", rootCaps(), 0, 0, 0},
		{"a capability of a later kernel", threadCaps{effective: allCaps | 1<<50, permitted: allCaps | 1<<50, bounding: allCaps | 1<<50}, keepTwo, keepTwo, keepTwo},
		{"setcap", threadCaps{effective: few, permitted: few, bounding: allCaps}, keepTwo, 1 << unix.CAP_BPF, allCaps},
		{"container", threadCaps{effective: few | 1<<unix.CAP_SETPCAP, permitted: few | 1<<unix.CAP_SETPCAP, bounding: few | 1<<unix.CAP_SETPCAP}, keepTwo, 1 << unix.CAP_BPF, 1 << unix.CAP_BPF},
		{"ambient", threadCaps{effective: few, permitted: few, inheritable: few, ambient: few, bounding: allCaps}, keepTwo, 1 << unix.CAP_BPF, allCaps},
		{"root, with ptrace", rootCaps(), withPtrace, withPtrace, withPtrace},
		{"no ptrace to keep", threadCaps{effective: few, permitted: few, bounding: allCaps}, withPtrace, few, allCaps},
		{"nothing to begin with", threadCaps{bounding: allCaps}, keepTwo, 0, allCaps},
	} {
		f := newFakeThreads(tt.had)
		if err := dropPrivilege(tt.keep, f); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		want := threadCaps{effective: tt.kept, permitted: tt.kept, inheritable: tt.kept, ambient: tt.kept, bounding: tt.bounding, noNewPrivs: true}
		for tid, got := range f.caps {
			if got != want {
				t.Errorf("%s: thread %d has %v, want %v", tt.name, tid, got, want)
			}
		}
	}
}

// TestDropPrivilegeEnding: a thread that has ended already is waited for.
func TestDropPrivilegeEnding(t *testing.T) {
	f := newFakeThreads(rootCaps())
	f.deaf = otherThread
	f.spoil = func(f *fakeThreads) {
		if f.reads == 4 {
			delete(f.caps, otherThread)
		}
	}
	if err := dropPrivilege(keepTwo, f); err != nil {
		t.Error(err)
	}
}

// TestDropPrivilegeFailsClosed: whatever fails, or does not do what it should, is an
// error that says what it was and how to go on.
func TestDropPrivilegeFailsClosed(t *testing.T) {
	was := endingPatience
	endingPatience = 10 * time.Millisecond
	defer func() { endingPatience = was }()
	f := newFakeThreads(rootCaps())
	if err := dropPrivilege(keepTwo, f); err != nil {
		t.Fatal(err)
	}
	steps := slices.Compact(slices.Clone(f.calls))
	if len(steps) != 5 {
		t.Fatalf("steps %v", steps)
	}
	spoiled := func(change func(c *threadCaps)) func(*fakeThreads) {
		return func(f *fakeThreads) {
			c := f.caps[otherThread]
			change(&c)
			f.caps[otherThread] = c
		}
	}
	cases := map[string]*fakeThreads{"deaf": {deaf: otherThread}}
	for _, call := range append(steps, "read 1", "read 2") {
		cases[call] = &fakeThreads{fail: call}
	}
	for name, change := range map[string]func(c *threadCaps){
		"effective": func(c *threadCaps) { c.effective |= 1 }, "permitted": func(c *threadCaps) { c.permitted |= 1 },
		"inheritable": func(c *threadCaps) { c.inheritable |= 1 }, "ambient": func(c *threadCaps) { c.ambient |= 1 },
		"bounding": func(c *threadCaps) { c.bounding |= 1 }, "no_new_privs": func(c *threadCaps) { c.noNewPrivs = false },
		"too little": func(c *threadCaps) { c.effective = 0 },
	} {
		cases["left in "+name] = &fakeThreads{spoil: spoiled(change)}
	}
	for name, f := range cases {
		f.caps = newFakeThreads(rootCaps()).caps
		err := dropPrivilege(keepTwo, f)
		if !errors.Is(err, errDrop) || !strings.Contains(err.Error(), "--keep-caps all") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckThreads: a program with threads that Go does not know says so before
// anything is attached; what go test -race builds is one.
func TestCheckThreads(t *testing.T) {
	if err := checkThreads(); err != nil && (!errors.Is(err, unix.ENOTSUP) || !strings.Contains(err.Error(), "CGO_ENABLED=0")) {
		t.Errorf("no way out: %v", err)
	}
}

func TestParseCaps(t *testing.T) {
	const status = "Name:\tx\nCapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000002\nCapBnd:\t0000000000000003\nCapAmb:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t0\n"
	got, err := parseCaps(status)
	if want := (threadCaps{inheritable: 1, permitted: 0x1fffeffffff, effective: 2, bounding: 3, ambient: 4, noNewPrivs: true}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"", "CapEff:\t0\n", strings.Replace(status, "0000000000000003", "x", 1), strings.Replace(status, "NoNewPrivs:\t1\n", "", 1)} {
		if got, err := parseCaps(wrong); err == nil {
			t.Errorf("%q: %+v", wrong, got)
		}
	}
	all, err := processCaps("/proc/self/task")
	if _, ok := all[os.Getpid()]; err != nil || !ok {
		t.Errorf("of this process: %v, %v", all, err)
	}
}
