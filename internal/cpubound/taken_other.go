// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package cpubound

import "time"

var start = time.Now()

// taken is the time that has passed: what of it was this process's is not told here.
func taken() time.Duration { return time.Since(start) }
