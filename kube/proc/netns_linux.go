// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NetnsInode returns the inode number of the namespace that a file stands
// for. A name under /run/netns without a namespace is an error.
func NetnsInode(path string) (uint32, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("%s: not a namespace", path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return uint32(st.Ino), nil
}
