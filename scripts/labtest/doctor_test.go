// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// normaliseDoctor puts the series in the place of the release, which changes
// with every point release. Nothing else that doctor says may differ between
// two machines of one series. The machine must have booted that series.
func normaliseDoctor(text, series string) (string, error) {
	first, _, _ := strings.Cut(text, "\n")
	words := strings.Fields(first)
	if len(words) != 3 || words[0] != "kernel" {
		return "", fmt.Errorf("doctor does not begin with the kernel but with %q", first)
	}
	release := words[1]
	if !strings.HasPrefix(release, series+".") {
		return "", fmt.Errorf("kernel %s is not of series %s", release, series)
	}
	return strings.ReplaceAll(text, release, series+".x"), nil
}

// differences names each line that only one side has: got is what this kernel
// said, want what its series is known for.
func differences(got, want string) (out []string) {
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range wantLines {
		if !slices.Contains(gotLines, line) {
			out = append(out, fmt.Sprintf("doctor no longer says %q", line))
		}
	}
	for _, line := range gotLines {
		if !slices.Contains(wantLines, line) {
			out = append(out, fmt.Sprintf("doctor says %q, which is not in the list", line))
		}
	}
	if len(out) == 0 && got != want {
		out = append(out, fmt.Sprintf("doctor says the same in another order, or twice:\n%s", got))
	}
	return out
}

const doctorSaid = `kernel 6.12.117+deb13-cloud-amd64 amd64
ok        BTF
ok        IPVS
stackhop trace works here, with all hooks
`

// The comparison itself, without a machine: it must be able to fail.
func TestDoctorDifferences(t *testing.T) {
	want, err := normaliseDoctor(doctorSaid, "6.12")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		from, to string // the change
		differ   bool
	}{
		{"the same", "", "", false},
		{"another point release", "6.12.117+deb13", "6.12.9+deb14", false},
		{"a feature is missing", "ok        BTF", "missing   BTF  no such file", true},
		{"a feature is degraded", "ok        IPVS", "degraded  IPVS  its module is not loaded", true},
		{"a feature is no longer probed", "ok        IPVS\n", "", true},
		{"a feature is new", "ok        BTF\n", "ok        BTF\nok        IPX\n", true},
		{"a feature is told twice", "ok        BTF\n", "ok        BTF\nok        BTF\n", true},
		{"another verdict", "with all hooks", "with --hooks tracepoints only", true},
		{"another machine", "-cloud-amd64 amd64", "-cloud-arm64 arm64", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := normaliseDoctor(strings.Replace(doctorSaid, tt.from, tt.to, 1), "6.12")
			if err != nil {
				t.Fatal(err)
			}
			if found := differences(got, want); (len(found) > 0) != tt.differ {
				t.Errorf("differences %q, want some: %t", found, tt.differ)
			}
		})
	}
}

func TestNormaliseDoctor(t *testing.T) {
	for _, tt := range []struct{ name, text, series string }{
		{"another series", doctorSaid, "6.1"},
		{"empty", "", "6.12"},
		{"no kernel", "ok BTF amd64\n", "6.12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := normaliseDoctor(tt.text, tt.series); err == nil {
				t.Errorf("accepted as %q", got)
			}
		})
	}
}
