// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dropTo leaves this thread with some of the capabilities, and f runs on it.
func dropTo(keep func(bit uint) bool, f func() error) error {
	return onThread(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return err
		}
		for bit := range uint(64) {
			if !keep(bit) {
				data[bit/32].Effective &^= 1 << (bit % 32)
			}
		}
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			return err
		}
		return f()
	})
}

func TestMissingCapabilities(t *testing.T) {
	tests := []struct {
		name string
		keep func(bit uint) bool
		must []string
	}{
		{"none", func(uint) bool { return false }, []string{"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"}},
		{"all but CAP_BPF", func(bit uint) bool { return bit != unix.CAP_BPF }, []string{"CAP_BPF"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := dropTo(tt.keep, func() error {
				missing, err := missingCapabilities()
				if err != nil {
					return err
				}
				for _, name := range tt.must {
					if !slices.Contains(missing, name) {
						t.Errorf("%s is not among the missing %v", name, missing)
					}
				}
				err = checkPrivilege()
				if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), strings.ToLower(tt.must[0])) {
					t.Errorf("complains %q: it names no way out", err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNativeRootLacksNothing(t *testing.T) {
	needRoot(t)
	if missing, err := missingCapabilities(); err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}
