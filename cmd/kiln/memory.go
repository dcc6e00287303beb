package main

import (
	"math"
	"runtime"
	"runtime/debug"
)

// collectLate spares a command that ends in a moment the garbage collection of
// a heap that begins small: nothing is collected before the heap has soon bytes,
// and from then on as usual.
func collectLate(soon int64) {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(soon)
	if limit != math.MaxInt64 || percent != 100 { // the user has asked for something else by GOGC or GOMEMLIMIT
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		return
	}
	first := &struct{ pad [16]byte }{}
	runtime.SetFinalizer(first, func(*struct{ pad [16]byte }) { // it is garbage already: the first collection finds it
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}
