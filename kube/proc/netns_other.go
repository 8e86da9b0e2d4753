// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package proc

import (
	"errors"
	"fmt"
)

// NetnsInode fails: only Linux has network namespaces.
func NetnsInode(path string) (uint32, error) {
	return 0, fmt.Errorf("inode of namespace %s: %w", path, errors.ErrUnsupported)
}
