// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package redact

// noFollow does not exist here; O_EXCL alone refuses what is there already.
const noFollow = 0
