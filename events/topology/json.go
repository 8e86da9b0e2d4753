// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/stackhop/stackhop/events"
)

// WriteJSON writes one indented JSON object. Lists that Sort has seen are never
// null.
func (t *Topology) WriteJSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // this is for jq, not for a page
	enc.SetIndent("", " ")
	inUTC := *t
	inUTC.Time = t.Time.UTC()
	if err := enc.Encode(&inUTC); err != nil {
		return fmt.Errorf("encode topology: %w", err)
	}
	_, err := w.Write(events.SafeJSON(b.Bytes()))
	return err
}
