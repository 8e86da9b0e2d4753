// SPDX-License-Identifier: Apache-2.0

//go:build !race

package record

// underRace: these tests run with the race detector.
const underRace = false
