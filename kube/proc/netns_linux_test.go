// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNetnsInode(t *testing.T) {
	own, err := NetnsInode("/proc/self/ns/net")
	if err != nil || own == 0 {
		t.Fatalf("own namespace: %d, %v", own, err)
	}
	// A name made under /run/netns, before anything is mounted there.
	name := filepath.Join(t.TempDir(), "cni-1")
	if err := os.WriteFile(name, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{name, name + "-gone"} {
		if inode, err := NetnsInode(path); err == nil {
			t.Errorf("%s: namespace %d", path, inode)
		}
	}
}
