package kiln

// Event is one line of a build's story. Everything that shows progress
// (terminal, JSON, log, report) listens to the same stream.
type Event struct {
	Time    int64  `json:"time"` // Unix milliseconds
	Build   string `json:"build,omitempty"`
	Station string `json:"station,omitempty"`
	// Type is start, progress, note, warning, done, cached, failed, result.
	Type    string `json:"type"`
	Message string `json:"message,omitempty"`
	// Done and Total count Unit ("bytes", "packages", "objectives", "tests").
	Done   int64  `json:"done,omitempty"`
	Total  int64  `json:"total,omitempty"`
	Unit   string `json:"unit,omitempty"`
	Millis int64  `json:"millis,omitempty"` // with done, cached, failed
	// Result is the finished build, with type "result": the last event of the stream.
	Result *Build `json:"result,omitempty"`
}

// Types of events.
const (
	EventStart    = "start"
	EventProgress = "progress"
	EventNote     = "note"
	EventWarning  = "warning"
	EventDone     = "done"
	EventCached   = "cached"
	EventFailed   = "failed"
	EventResult   = "result"
)

// Report receives events; it must be safe for concurrent use. A nil Report is legal to call through Emit.
type Report func(Event)

// Emit sends an event if anybody listens.
func (r Report) Emit(e Event) {
	if r != nil {
		r(e)
	}
}

// Note emits a remark of a station.
func (r Report) Note(station, message string) {
	r.Emit(Event{Station: station, Type: EventNote, Message: message})
}

// Warn emits a warning of a station.
func (r Report) Warn(station, message string) {
	r.Emit(Event{Station: station, Type: EventWarning, Message: message})
}

// Progress emits a count.
func (r Report) Progress(station string, done, total int64, unit string) {
	r.Emit(Event{Station: station, Type: EventProgress, Done: done, Total: total, Unit: unit})
}
