// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// budgetCap: no program may come near the verifier's bound of a million, on any kernel.
const budgetCap = 100_000

// The lab runs this test on its kernels (its check instructions).
var (
	budgetFile = flag.String("budget", "../testdata/kernels/instructions.csv", "the table of what the verifier looks at")
	budgetOnly = flag.String("variant", "", "the only variant to load (default: all)")
)

// effort is what the verifier took for a program.
type effort struct{ instructions, states uint32 }

// series is the kernel's, such as "6.18".
func series() string {
	parts := strings.SplitN(release(), ".", 3)
	if len(parts) < 2 {
		return release()
	}
	return parts[0] + "." + parts[1]
}

// anywhere are arguments in registers, for whatever a program takes: kprobe
// programs can be loaded on kernels that let nothing be attached to functions.
func anywhere(r *row) *resolved {
	res := &resolved{deref: r.derefSlot(), derefAt: r.derefAt}
	for i, offset := range []int16{bpf.ArgSkb, bpf.ArgNet, bpf.ArgSk, bpf.ArgState, bpf.ArgA, bpf.ArgB, bpf.ArgC} {
		res.slots = append(res.slots, slot{offset: offset, arg: nth(uint8(min(i+1, 6)))})
	}
	return res
}

// A variant is what decides which parts of the programs stay.
type variant struct {
	hooks     HookSet
	recording bool
	sets      bool // the selection has sets
}

func (v variant) String() string {
	name := string(v.hooks)
	if v.recording {
		name += " recording"
	}
	if v.sets {
		name += " sets"
	}
	return name
}

func (v variant) selection(t *testing.T) *pcapexpr.Expr {
	e := expression(t, "tcp port 80 or udp port 53 or icmp")
	if !v.sets {
		return e
	}
	web, cart := pcapexpr.NewSet("pod/shop/web"), pcapexpr.NewSet("svc/shop/cart")
	return pcapexpr.And(e, pcapexpr.Or(
		pcapexpr.And(pcapexpr.SrcIn(web), pcapexpr.DstIn(cart)),
		pcapexpr.And(pcapexpr.SrcIn(cart), pcapexpr.DstIn(web))))
}

// verified loads every program of a hook set once and returns what the verifier took
// for each.
func verified(t *testing.T, v variant) map[string]effort {
	t.Helper()
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	tr := &Tracer{cfg: Config{Select: v.selection(t), Hooks: v.hooks, Record: v.recording}, kernel: k, hooks: newHooks(), clock: newClock()}
	if err := tr.cfg.validate(); err != nil {
		t.Fatal(err)
	}
	tr.early = startMaps(&tr.cfg)
	defer tr.early.close()
	if err := tr.load(); err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	tr.loader.log = ebpf.LogLevelStats
	got := map[string]effort{}
	forget, err := tr.loader.make(tr.loader.spec.Programs[bpf.ProgForget].Copy())
	if err != nil {
		t.Fatal(err)
	}
	got[bpf.ProgForget] = effortFor(t, forget)
	forget.Close()
	for _, h := range tr.hooks {
		native := h.row.at == onTC || h.row.at == onTracepoint
		if _, done := got[h.row.prog]; done || v.hooks == HooksTracepoints && !native {
			continue
		}
		how, res, ctx := "kprobe", anywhere(h.row), contextRegs
		if native {
			if how, res, ctx, err = k.plan(h.row); err != nil {
				t.Fatalf("%s: %v", h.row.name, err)
			}
		}
		prog, err := tr.loader.program(h, how, res, ctx)
		if err != nil {
			t.Errorf("%s: %v", h.row.prog, err)
			continue
		}
		got[h.row.prog] = effortFor(t, prog)
		prog.Close()
	}
	return got
}

// effortFor reads the verifier's last line, which is the same from 5.2 on: "processed
// 223 insns (limit 1000000) max_states_per_insn 1 total_states 10 peak_states 10
// mark_read 4".
func effortFor(t *testing.T, prog *ebpf.Program) (e effort) {
	t.Helper()
	_, said, _ := strings.Cut(prog.VerifierLog, "processed ")
	var limit, most uint32
	if _, err := fmt.Sscanf(said, "%d insns (limit %d) max_states_per_insn %d total_states %d", &e.instructions, &limit, &most, &e.states); err != nil {
		t.Errorf("%s: %v in %q", prog, err, prog.VerifierLog)
	}
	return e
}

// The verifier's work is the time that attaching takes, and its bound the end
// of what a program may do. Run with -update after a change that is meant.
func TestNativeInstructionBudget(t *testing.T) {
	needRoot(t)
	want, err := readBudget()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]effort{}
	for _, set := range []HookSet{HooksAll, HooksTracepoints} {
		for _, v := range []variant{{hooks: set}, {hooks: set, recording: true}, {hooks: set, sets: true}, {hooks: set, recording: true, sets: true}} {
			if *budgetOnly != "" && v.String() != *budgetOnly {
				continue
			}
			for prog, e := range verified(t, v) {
				got[series()+","+v.String()+","+prog] = e
				if e.instructions > budgetCap {
					t.Errorf("%s (%s): %d instructions verified, more than %d", prog, v, e.instructions, budgetCap)
				}
			}
		}
	}
	if *update {
		maps.DeleteFunc(want, func(key string, _ effort) bool { return strings.HasPrefix(key, series()+",") })
		maps.Copy(want, got)
		if err := writeBudget(want); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(key string) bool { return strings.HasPrefix(key, series()+",") }) {
		t.Logf("no table for kernel %s: only the cap applies", series())
		return
	}
	for key, e := range got {
		n, was := e.instructions, want[key].instructions
		if _, ok := want[key]; !ok || n > was+was/10 || n < was-was/10 {
			t.Errorf("%s: %d instructions verified, %d in %s; if that is meant: go test ./tracer -run Budget -update", key, n, was, *budgetFile)
		}
	}
}

func readBudget() (map[string]effort, error) {
	budget := map[string]effort{}
	f, err := os.Open(*budgetFile)
	if errors.Is(err, os.ErrNotExist) {
		return budget, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, r := range rows[1:] {
		instructions, err1 := strconv.ParseUint(r[3], 10, 32)
		states, err2 := strconv.ParseUint(r[4], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		budget[strings.Join(r[:3], ",")] = effort{uint32(instructions), uint32(states)}
	}
	return budget, nil
}

func writeBudget(budget map[string]effort) error {
	var out strings.Builder
	out.WriteString("series,hooks,program,instructions,states\n")
	for _, key := range slices.Sorted(maps.Keys(budget)) {
		fmt.Fprintf(&out, "%s,%d,%d\n", key, budget[key].instructions, budget[key].states)
	}
	return os.WriteFile(*budgetFile, []byte(out.String()), 0o644)
}
