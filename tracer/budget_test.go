// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/csv"
	"errors"
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

const (
	budgetFile = "../testdata/kernels/instructions.csv"
	// No program may come near the verifier's bound of a million, on any kernel.
	budgetCap = 100_000
)

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

// verified loads every program of a hook set once and returns how many
// instructions the verifier looked at.
func verified(t *testing.T, v variant) map[string]uint32 {
	t.Helper()
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	tr := &Tracer{cfg: Config{Select: v.selection(t), Hooks: v.hooks, Record: v.recording}, kernel: k, hooks: newHooks(), clock: newClock()}
	if err := tr.cfg.validate(); err != nil {
		t.Fatal(err)
	}
	if err := tr.load(); err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	got := map[string]uint32{bpf.ProgForget: instructions(t, tr.forget)}
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
		got[h.row.prog] = instructions(t, prog)
		prog.Close()
	}
	return got
}

// instructions is what the verifier looked at; 0 on kernels that do not tell.
func instructions(t *testing.T, prog *ebpf.Program) uint32 {
	t.Helper()
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	if !ok && !strings.HasPrefix(series(), "5.") { // from 5.16 on
		t.Errorf("kernel %s does not tell the number of verified instructions", release())
	}
	return n
}

// The verifier's work is the time that attaching takes, and its bound the end
// of what a program may do. Run with -update after a change that is meant.
func TestNativeInstructionBudget(t *testing.T) {
	needRoot(t)
	want, err := readBudget()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint32{}
	for _, set := range []HookSet{HooksAll, HooksTracepoints} {
		for _, v := range []variant{{hooks: set}, {hooks: set, recording: true}, {hooks: set, sets: true}, {hooks: set, recording: true, sets: true}} {
			for prog, n := range verified(t, v) {
				got[series()+","+v.String()+","+prog] = n
				if n > budgetCap {
					t.Errorf("%s (%s): %d instructions verified, more than %d", prog, v, n, budgetCap)
				}
			}
		}
	}
	if *update {
		maps.DeleteFunc(want, func(key string, _ uint32) bool { return strings.HasPrefix(key, series()+",") })
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
	for key, n := range got {
		was, ok := want[key]
		if !ok || n > was+was/10 || n < was-was/10 {
			t.Errorf("%s: %d instructions verified, %d in %s; if that is meant: go test ./tracer -run Budget -update", key, n, was, budgetFile)
		}
	}
}

func readBudget() (map[string]uint32, error) {
	budget := map[string]uint32{}
	f, err := os.Open(budgetFile)
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
		n, err := strconv.ParseUint(r[3], 10, 32)
		if err != nil {
			return nil, err
		}
		budget[strings.Join(r[:3], ",")] = uint32(n)
	}
	return budget, nil
}

func writeBudget(budget map[string]uint32) error {
	var out strings.Builder
	out.WriteString("series,hooks,program,instructions\n")
	for _, key := range slices.Sorted(maps.Keys(budget)) {
		out.WriteString(key + "," + strconv.FormatUint(uint64(budget[key]), 10) + "\n")
	}
	return os.WriteFile(budgetFile, []byte(out.String()), 0o644)
}
