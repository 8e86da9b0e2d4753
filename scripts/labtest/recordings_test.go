// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// exported reads the capture file that was made of a recording with programs that
// the guest does not have: they find the packets that the export told of, and what
// it says of one that was terminated.
func (m *machine) exported(t *testing.T) {
	t.Helper()
	want := strings.TrimSpace(m.left(t, "exported"))
	file := filepath.Join(m.out, "live.pcapng")
	lines := func(name string, args ...string) []string {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stderr.Bytes())
		}
		return strings.FieldsFunc(string(out), func(c rune) bool { return c == '\n' })
	}
	for _, reader := range [][]string{{"tshark", "-n", "-r", file, "-T", "fields", "-e", "frame.number"}, {"tcpdump", "-n", "-r", file}} {
		if n := len(lines(reader[0], reader[1:]...)); want != strconv.Itoa(n) {
			t.Errorf("%s reads %d packets, the export wrote %s", reader[0], n, want)
		}
	}
	ended := lines("tshark", "-n", "-r", file, "-Y", `frame.comment contains "terminated in IPVS"`, "-T", "fields", "-e", "ip.src", "-e", "ip.dst")
	if len(ended) == 0 {
		t.Error("tshark finds no packet that was terminated in IPVS")
	}
	for _, line := range ended {
		if line != "172.23.96.23\t8.219.164.113" {
			t.Errorf("terminated in IPVS is %q, want case 7's", line)
		}
	}
}
