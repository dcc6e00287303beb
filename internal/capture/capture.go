// Package capture keeps what programs print within bounds.
package capture

import "bytes"

// Head keeps the first Max bytes written to it and drops the rest. It never
// fails, so that a program that prints without end is not stopped by it.
type Head struct {
	Max  int
	Lost bool // something was dropped
	buf  bytes.Buffer
}

// Write keeps of p what there is room for.
func (h *Head) Write(p []byte) (int, error) {
	room := max(h.Max-h.buf.Len(), 0)
	if room < len(p) {
		h.Lost = true
	}
	h.buf.Write(p[:min(room, len(p))])
	return len(p), nil
}

// Bytes is what was kept.
func (h *Head) Bytes() []byte { return h.buf.Bytes() }

// String is what was kept, as a text.
func (h *Head) String() string { return h.buf.String() }
