// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// The committed object is read without any privilege.
func TestSpec(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{MapRings, MapPackets, MapFlows, MapVia, MapTargets} {
		if spec.Maps[name] == nil {
			t.Errorf("no map %s", name)
		}
	}
	for _, name := range []string{"enabled", "select_all", "prove_identity", "count_hits", "targets", "target_bits", "stats", "hits"} {
		if spec.Variables[name] == nil {
			t.Errorf("no variable %s", name)
		}
	}
	for name := range spec.Maps {
		if len(name) > 15 || strings.HasPrefix(name, ".") == strings.HasPrefix(name, "sh_") {
			t.Errorf("map %s: names begin with sh_ and have 15 characters at most", name)
		}
	}
	if spec.Maps[MapRings].InnerMap == nil || spec.Maps[MapRings].InnerMap.Type != ebpf.RingBuf {
		t.Error("the map of rings holds none")
	}
}

func TestPrograms(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		if p.License != "Dual BSD/GPL" {
			t.Errorf("%s: license %q", name, p.License)
		}
		functions := map[string]bool{}
		for _, ins := range p.Instructions {
			functions[ins.Symbol()] = true
		}
		if !functions[FuncHookArgs] {
			t.Errorf("%s does not call %s: nothing tells it its packet", name, FuncHookArgs)
		}
	}
}
