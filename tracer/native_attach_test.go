// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

var everyStep = flag.Int("every", 1, "TestNativeAttachFailures refuses one of so many steps: where all hooks are attached each takes seconds")

// attachSteps are the steps (Config.step) in which a tracer of this kernel's hooks is
// made, in one order in which they come.
func attachSteps(t *testing.T, hooks HookSet) (steps []string) {
	t.Helper()
	var mu sync.Mutex
	tr, err := New(Config{Select: pcapexpr.None(), Hooks: hooks, step: func(what string) error {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, what)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// hookSet is all hooks where this kernel lets functions be hooked.
func hookSet(t *testing.T) HookSet {
	t.Helper()
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.checkFunctionHooks(); err != nil {
		if HookSet(*hooksFlag) == HooksAll {
			t.Fatal(err)
		}
		return HooksTracepoints
	}
	return HooksAll
}

// TestNativeAttachFailures lets each step of attaching fail in turn. What is required
// ends it with an error that names the step and the hook, what is not is attached as a
// kprobe instead, or told of once and absent; and nothing of ours stays in the kernel.
func TestNativeAttachFailures(t *testing.T) {
	needRoot(t)
	hooks := hookSet(t)
	steps := attachSteps(t, hooks)
	refused := errors.New("refused by a test")
	held := func() kernelObjects { return heldBy(t, os.Getpid()) }
	before := held()
	required, optional, other := 0, 0, 0
	all := kernelObjects{}
	for i, step := range steps {
		if i%*everyStep > 0 {
			continue
		}
		var mu sync.Mutex
		var during kernelObjects
		var warned []string
		tr, err := New(Config{
			Select: pcapexpr.None(), Hooks: hooks,
			Warn: func(s string) { mu.Lock(); defer mu.Unlock(); warned = append(warned, s) },
			step: func(what string) error {
				mu.Lock()
				defer mu.Unlock()
				if what == step {
					during = held()
					return refused
				}
				return nil
			},
		})
		_, name, _ := strings.Cut(step, " ")
		row := slices.IndexFunc(table, func(r row) bool { return r.name == name })
		switch {
		case row >= 0 && !table[row].required:
			optional++
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			told := 0
			for _, w := range warned {
				if strings.Contains(w, name+" is missing") && strings.Contains(w, refused.Error()) {
					told++
				}
			}
			at := slices.IndexFunc(tr.Attached(), func(h HookStatus) bool { return h.Name == name })
			if at < 0 {
				t.Fatalf("%s: the hook is not listed", step)
			}
			switch how := tr.Attached()[at].How; {
			case told == 1 && how == "absent":
			case told == 0 && hooks == HooksAll && how == "kprobe" && strings.HasPrefix(step, "attach "):
				other++ // the next rung of the ladder
			default:
				t.Errorf("%s: told %d times, %+v: %q", step, told, tr.Attached()[at], warned)
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		default:
			required++
			if !errors.Is(err, refused) || tr != nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", step, err)
			}
		}
		if after := held(); !slices.Equal(flat(after), flat(before)) {
			t.Errorf("%s: before %v, after %v", step, before, after)
		}
		for kind, ids := range without(during, before) {
			all[kind] = append(all[kind], ids...)
		}
	}
	// A process of ours lets go of trampolines, for each of which the kernel takes its time.
	if !becomes(2*time.Minute, func() bool { return len(all.alive()) == 0 }) {
		t.Errorf("left in the kernel: %v", all.alive())
	}
	t.Logf("--hooks %s: of %d steps %d refused whose failure ends it, %d that it goes on without, %d of them by a kprobe", hooks, len(steps), required, optional, other)
	if required == 0 || optional == 0 {
		t.Error("one kind of them is not there")
	}
}

func flat(o kernelObjects) (out []uint32) {
	for _, kind := range []string{"prog_id", "map_id", "link_id"} {
		ids := slices.Clone(o[kind])
		slices.Sort(ids)
		out = append(out, ids...)
	}
	return out
}

// without are the objects that others does not have.
func without(o, others kernelObjects) kernelObjects {
	out := kernelObjects{}
	for kind, ids := range o {
		out[kind] = slices.DeleteFunc(slices.Clone(ids), func(id uint32) bool { return slices.Contains(others[kind], id) })
	}
	return out
}
