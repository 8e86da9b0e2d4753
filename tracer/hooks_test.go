// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

func TestHookTable(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	names, programs := map[string]bool{}, map[string]bool{}
	for i := range table {
		r := &table[i]
		if r.name == "" || names[r.name] {
			t.Errorf("row %d: the name %q is empty or not the first of its kind", i, r.name)
		}
		names[r.name], programs[r.prog] = true, true
		if spec.Programs[r.prog] == nil {
			t.Errorf("%s: there is no program %q", r.name, r.prog)
		}
		if r.station == events.StationNone || events.StationName(r.station) == "" {
			t.Errorf("%s: no station, or one without a name", r.name)
		}
		if r.means == "" || strings.ToLower(r.means[:1]) != r.means[:1] && !strings.ContainsAny(r.means[1:2], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("%s: means %q: a phrase is wanted", r.name, r.means)
		}
		if r.required && r.kernels != "" {
			t.Errorf("%s is required and not on every kernel (%s)", r.name, r.kernels)
		}
		if name := programName(r.name); len(name) > 15 || !strings.HasPrefix(name, "sh_") {
			t.Errorf("%s: the kernel would cut the program's name %q", r.name, name)
		}
	}
	for name := range spec.Programs {
		if !programs[name] && name != bpf.ProgForget {
			t.Errorf("no row uses program %s", name)
		}
	}
	if len(table) >= 256 {
		t.Errorf("%d rows; HOOKS of bpf/state.h is 256", len(table))
	}
}

// inModules are the functions that lie in modules on Debian's 5.10, where modules
// have no BTF: their rows need positions.
var inModules = []string{
	"veth_xmit",
	"br_handle_frame_finish", "br_forward", "br_flood", "br_pass_frame_up", "br_dev_xmit",
	"br_nf_pre_routing", "br_nf_forward_ip", "br_nf_post_routing",
	"ipt_do_table", "ip6t_do_table", "nft_do_chain",
	"nf_conntrack_in", "__nf_conntrack_confirm", "nf_nat_manip_pkt",
	"ip_vs_remote_request4", "ip_vs_local_request4", "ip_vs_remote_request6", "ip_vs_schedule", "ip_vs_conn_new",
	"ip_vs_nat_xmit", "ip_vs_nat_xmit_v6", "ip_vs_dr_xmit", "ip_vs_tunnel_xmit", "ip_vs_bypass_xmit", "ip_vs_null_xmit",
	"ip_vs_leave", "handle_response", "nf_send_reset", "nf_send_reset6",
}

func TestModuleRowsHavePositions(t *testing.T) {
	for _, name := range inModules {
		i := slices.IndexFunc(table, func(r row) bool { return r.name == name })
		if i < 0 {
			t.Errorf("%s is not in the table", name)
			continue
		}
		if _, err := resolvePositions(&table[i]); err != nil {
			t.Errorf("%s on a kernel without BTF for modules: %v", name, err)
		}
	}
}

func TestStatsOrder(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("stat", &enum); err != nil {
		t.Fatal(err)
	}
	fields := reflect.TypeFor[bpf.Stats]()
	for i, v := range enum.Values {
		if v.Name == "STATS" {
			continue
		}
		want := strings.ReplaceAll(strings.TrimPrefix(v.Name, "STAT_"), "_", "")
		if got := fields.Field(i).Name; !strings.EqualFold(got, want) || v.Value != uint64(i) {
			t.Errorf("counter %d is %s in C and %s in Go", i, v.Name, got)
		}
	}
}

// The flags and extensions of an event are the same numbers in C and in Go.
func TestEventNumbers(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]int{
		"event_flags": {"EVENT_FIRST": int(events.FlagFirst), "EVENT_END": int(events.FlagEnd), "EVENT_MATCHED": int(events.FlagMatched),
			"EVENT_REPLY": int(events.FlagReply), "EVENT_TASK": int(events.FlagTask), "EVENT_NO_CT": int(events.FlagNoEntry)},
		"event_ext": {"EXT_NONE": int(events.ExtNone), "EXT_HEADER": int(events.ExtHeader), "EXT_CT": int(events.ExtConntrack)},
	}
	for name, values := range want {
		var enum *btf.Enum
		if err := spec.Types.TypeByName(name, &enum); err != nil {
			t.Fatal(err)
		}
		if len(enum.Values) != len(values) {
			t.Errorf("enum %s has %d values, Go knows %d", name, len(enum.Values), len(values))
		}
		for _, v := range enum.Values {
			if w, ok := values[v.Name]; !ok || uint64(w) != v.Value {
				t.Errorf("%s is %d in C and %d in Go", v.Name, v.Value, w)
			}
		}
	}
}

func TestHookStatus(t *testing.T) {
	h := &hook{row: &row{name: "x.verdict", target: "x", station: events.StationVerdict, kernels: "5.10", means: "m"}, err: errAbsent}
	s := h.status()
	if s.How != "absent" || s.Function != "x" || s.Station != "verdict" || s.Err == "" {
		t.Errorf("%+v", s)
	}
	if err := h.absent(errAbsent); err != nil {
		t.Errorf("an optional row that is absent: %v", err)
	}
	h.row.required = true
	if err := h.absent(errAbsent); !errors.Is(err, errAbsent) || !strings.Contains(err.Error(), "x.verdict") {
		t.Errorf("a required row that is absent: %v", err)
	}
}
