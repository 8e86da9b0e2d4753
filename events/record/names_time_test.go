// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// TestManyNames: names that wait for their items do not cost each item their number.
func TestManyNames(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 65_000 {
		w.names = fmt.Appendf(w.names, `{"at":%d,"proc":{"inode":1}}`+"\n", i)
	}
	w.put(kindNames, w.names)
	w.names = nil
	for i := range uint64(32_000) {
		w.Tick(i)
	}
	if err := w.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := r.Run(&counter{}); err != nil {
		t.Fatal(err)
	}
	// It takes some 50 ms; when each item moved all names behind it, seconds.
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("%v", took)
	}
}
