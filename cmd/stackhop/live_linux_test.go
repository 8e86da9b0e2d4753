// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetns looks up the namespace that the test itself is in.
func TestNetns(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	inode := strconv.FormatUint(st.Ino, 10)
	path, err := netnsPath(inode)
	if err != nil {
		t.Fatal(err)
	}
	var found unix.Stat_t
	if err := unix.Stat(path, &found); err != nil || found.Ino != st.Ino {
		t.Errorf("%s has inode %d (%v), want %s", path, found.Ino, err, inode)
	}
	for _, unknown := range []string{"1", "stackhop-no-such-namespace"} {
		if _, err := netnsAddrs(unknown); err == nil {
			t.Errorf("netns/%s was found", unknown)
		}
	}
	want, err := upAddrs()
	if err != nil {
		t.Fatal(err)
	}
	got, err := netnsAddrs(inode)
	if os.Geteuid() != 0 {
		if err == nil {
			t.Error("entered a namespace without root")
		}
		return
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("addresses %v (%v), want %v", got, err, want)
	}
}
