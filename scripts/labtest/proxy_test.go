// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// captured are the connections whose events are kept for the tests of stitching:
// those that go another way where no IPVS is.
var captured = []string{"nginx", "nginx1-cluster-same", "itp-local", "empty", "outside-cluster"}

// TestProxy runs the check of services with a real kube-proxy on each node, in all
// of its modes. One kernel does: what differs are the rules. -update keeps events.
//
//	go test -tags lab -timeout 30m ./scripts/labtest -run TestProxy -v
func TestProxy(t *testing.T) {
	bin := build(t)
	slots.take(t, 6*time.Minute)
	c := apitest.Start(t, apitest.Config{ServiceRange: serviceRanges})
	m := clusterOf(t, bin, "-proxy")
	apitest.CreateManifest(t, c.Client(t), &m)
	kubeconfig, proxy := c.GuestKubeconfig(t), apitest.Program(t, "kube-proxy")
	for _, mode := range []string{"ipvs", "iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			m := run(t, bin, "6.12", fmt.Sprintf("lab up -proxy %s && lab check -o /out -seed %d proxy", mode, *seed),
				"-g", fmt.Sprint(c.APIPort), "-f", kubeconfig+":/lab/kubeconfig", "-f", proxy+":/lab/kube-proxy")
			m.check(t, "proxy")
			if t.Failed() {
				t.Logf("the guest said\n%s", strings.Join(m.log, "\n"))
			} else if *update && mode != "ipvs" {
				m.keepCaptures(t, mode)
			}
		})
	}
}

// keepCaptures keeps the events of some connections.
func (m *machine) keepCaptures(t *testing.T, mode string) {
	t.Helper()
	for _, id := range captured {
		text, err := os.ReadFile(filepath.Join(m.out, "case"+id+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s-%s-%s.jsonl", m.series, mode, id)
		if err := os.WriteFile(filepath.Join(root, "events/testdata/captures", name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
