package harden

import "time"

// timeText writes Unix seconds as labels want them.
func timeText(epoch int64) string { return time.Unix(epoch, 0).UTC().Format(time.RFC3339) }
