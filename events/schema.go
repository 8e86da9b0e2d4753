// SPDX-License-Identifier: Apache-2.0

package events

import _ "embed"

// Schema is the JSON Schema (2020-12) of what JSONRenderer writes. Fields may
// be added to it, never renamed or dropped.
//
//go:embed schema.json
var Schema []byte
