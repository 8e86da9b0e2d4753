// SPDX-License-Identifier: Apache-2.0

//go:build unix

package redact

import "syscall"

// noFollow makes opening fail where the last part of a path is a link.
const noFollow = syscall.O_NOFOLLOW
